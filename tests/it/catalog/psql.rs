//! psql's backslash commands, each with words that only a right answer has.

use super::Server;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_the_right_answer() {
    let server = Server::start().await;
    let none = "(0 rows)";
    let commands: &[(&str, &[&str])] = &[
        (
            "\\d",
            &[
                "public | big       | view              | tester",
                "public | elsewhere | foreign table     | tester",
                "public | hourly    | materialized view | tester",
                "public | notes     | table             | tester",
                "(6 rows)",
            ],
        ),
        ("\\d+", &["sales", "permanent", "heap", "bytes"]),
        (
            "\\d sales",
            &[
                "Table \"public.sales\"",
                "event_time | timestamp without time zone |           | not null |",
                "unit_price | numeric(18,4)",
                "tags       | text[]",
            ],
        ),
        ("\\d+ sales", &["Table \"public.sales\"", "extended", "Access method: heap"]),
        ("\\d big", &["View \"public.big\"", "event_id   | bigint"]),
        ("\\d+ big", &["View \"public.big\"", "View definition:\n SELECT event_id"]),
        ("\\d hourly", &["Materialized view \"public.hourly\"", "bucket | timestamp without time zone"]),
        ("\\d+ top", &["Materialized view \"public.top\"", "View definition:\n SELECT product_id"]),
        ("\\d elsewhere", &["Foreign table \"public.elsewhere\"", "Server: files"]),
        ("\\d nowhere", &["Did not find any relation named \"nowhere\"."]),
        (
            "\\d pg_class",
            &["Table \"pg_catalog.pg_class\"", "relacl              | aclitem[]", "pg_class_oid_index"],
        ),
        ("\\dS pg_cl*", &["Table \"pg_catalog.pg_class\""]),
        ("\\dS", &["pg_attribute", "pg_stat_activity", "sales"]),
        ("\\dt", &["sales", "notes", "(2 rows)"]),
        ("\\dt+", &["sales", "permanent", "heap"]),
        ("\\dt n*", &["notes", "(1 row)"]),
        ("\\dt toplake.*", &["dead_letters", "ledger"]),
        ("\\dv", &["big", "(1 row)"]),
        ("\\dv+", &["big", "permanent", "0 bytes"]),
        ("\\dm", &["hourly", "top", "(2 rows)"]),
        ("\\dm+", &["hourly", "heap"]),
        ("\\di", &["Did not find any relations."]),
        ("\\ds", &["Did not find any relations."]),
        ("\\dE", &["elsewhere", "foreign table"]),
        ("\\dn", &["public", "toplake", "(2 rows)"]),
        ("\\dn+", &["public", "tester=UC/tester"]),
        ("\\df approx_distinct", &["approx_distinct", "agg", "expression"]),
        ("\\df now", &["pg_catalog | now  | timestamp with time zone |", "func"]),
        ("\\df+ now", &["stable", "current transaction time"]),
        ("\\da sum", &["pg_catalog | sum  | numeric", "bigint"]),
        ("\\dfw rank", &["rank", "window"]),
        ("\\sf now", &["CREATE OR REPLACE FUNCTION pg_catalog.now()", "RETURNS timestamp with time zone"]),
        ("\\sv big", &["CREATE OR REPLACE VIEW public.big AS", "SELECT event_id"]),
        ("\\do =", &["pg_catalog | =    | bigint", "boolean"]),
        ("\\dO", &["List of collations", none]),
        ("\\dT", &[none]),
        ("\\dT int4", &["pg_catalog | integer", "-2 billion to 2 billion integer"]),
        ("\\dT+ int4", &["int4", "4"]),
        ("\\dC", &["bigint", "int4", "in assignment"]),
        ("\\dD", &[none]),
        (
            "\\dp sales",
            &["public | sales | table | ", "tester=arwdDxt/tester", "reader=r/tester", "writer=ard/tester"],
        ),
        ("\\z notes", &["public | notes | table | "]),
        ("\\du", &["tester", "Superuser", "reader", "Cannot login"]),
        ("\\dg", &["tester"]),
        ("\\drds", &["Did not find any settings."]),
        ("\\ddp", &[none]),
        ("\\dx", &[none]),
        ("\\dy", &[none]),
        ("\\db", &["pg_default"]),
        ("\\l", &["toplake", "tester", "UTF8"]),
        ("\\l+", &["toplake", "pg_default"]),
        ("\\dd", &[none]),
        ("\\des", &["files | tester | files"]),
        ("\\det", &["public | elsewhere | files"]),
        ("\\dew", &["files | tester"]),
        ("\\deu", &[none]),
        ("\\dF english", &["pg_catalog | english", "configuration for english language"]),
        ("\\dFd simple", &["simple dictionary: just lower case and check for stopword"]),
        ("\\dFp", &["default word parser"]),
        ("\\dFt", &["snowball"]),
        ("\\dL", &["List of languages"]),
        ("\\dLS", &["internal", "sql"]),
        ("\\dP", &[none]),
        ("\\dPt", &[none]),
        ("\\dRp", &[none]),
        ("\\dRs", &[none]),
        ("\\dX", &[none]),
        ("\\dconfig search_path", &["search_path | \"$user\", public"]),
        ("\\dA", &["btree  | Index", "heap   | Table"]),
        ("\\dAc btree int4", &["btree | integer", "int4_ops"]),
        ("\\dAf btree int4", &["btree | integer_ops"]),
        ("\\dAo btree integer_ops", &["=(integer,integer)"]),
        ("\\dAp btree integer_ops", &["btint4cmp"]),
        ("\\dl", &["Large objects", none]),
        ("\\lo_list", &["Large objects", none]),
        ("\\dc", &[none]),
        ("\\conninfo", &["tester"]),
    ];
    for (command, words) in commands {
        let Some(out) = server.psql(command) else { return };
        for word in *words {
            assert!(out.contains(word), "{command}: {word:?} is missing in\n{out}");
        }
    }
}
