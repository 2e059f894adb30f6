//! Names in text, as casts to `regclass` and its like read and write them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use pgwire::api::Type;

use super::fixed::static_tables;
use super::format_type::format_type;
use super::relations::{Relation, Seen};
use crate::error::{Error, Kind, Result};

/// The parts of a name: `public.sales`, `"Sales"`.
pub(super) fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut characters) = (false, text.trim().chars().peekable());
    while let Some(c) = characters.next() {
        let Some(last) = parts.last_mut() else { break };
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                last.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => last.push(c),
            c => last.extend(c.to_lowercase()),
        }
    }
    parts.iter().map(|p| p.trim().to_owned()).collect()
}

/// A name as SQL has to have it.
pub(super) fn quoted(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// What a number may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alias {
    Class,
    Namespace,
    Type,
    Proc,
    /// A function with the types of its arguments.
    Procedure,
    Role,
    Operator,
    /// Something that we have no names of: its number.
    Other,
}

impl Alias {
    /// By the name of the type.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "regclass" => Alias::Class,
            "regnamespace" => Alias::Namespace,
            "regtype" => Alias::Type,
            "regproc" => Alias::Proc,
            "regprocedure" => Alias::Procedure,
            "regrole" => Alias::Role,
            "regoper" | "regoperator" => Alias::Operator,
            "regconfig" | "regdictionary" | "regcollation" => Alias::Other,
            _ => return None,
        })
    }

    /// The number of what has this name; none if there is nothing.
    pub(super) fn find(self, seen: &Seen, name: &str) -> Option<i32> {
        if let Ok(number) = name.trim().parse::<u32>() {
            return i32::try_from(number).ok();
        }
        if name.trim() == "-" {
            return Some(0);
        }
        let parts = parts(name);
        let last = parts.last()?;
        match self {
            Alias::Class => seen.find(&parts).map(|r| r.oid),
            Alias::Namespace => seen.schemas.iter().find(|s| s.name == *last).map(|s| s.oid),
            Alias::Role => seen.roles.named(last).map(|m| m.oid),
            Alias::Type => type_of(name),
            Alias::Proc | Alias::Procedure => {
                let bare = last.split('(').next().unwrap_or_default().trim();
                functions().1.get(bare).copied()
            }
            Alias::Operator | Alias::Other => None,
        }
    }

    /// The same, or an error that says there is none.
    pub(super) fn require(self, seen: &Seen, name: &str) -> Result<i32> {
        let missing = || match self {
            Alias::Class => {
                Error::undefined_table(format!("relation \"{name}\" does not exist")).with_name(name)
            }
            Alias::Type => Error::new(Kind::UndefinedObject, format!("type \"{name}\" does not exist")),
            Alias::Namespace => {
                Error::new(Kind::UndefinedObject, format!("schema \"{name}\" does not exist"))
            }
            Alias::Role => Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist")),
            Alias::Proc | Alias::Procedure => {
                Error::new(Kind::UndefinedFunction, format!("function \"{name}\" does not exist"))
            }
            Alias::Operator | Alias::Other => {
                Error::new(Kind::UndefinedObject, format!("\"{name}\" does not exist"))
            }
        };
        self.find(seen, name).ok_or_else(missing)
    }

    /// The name of what has this number, with its schema where the bare name would not find it.
    pub(super) fn show(self, seen: &Seen, oid: i32) -> String {
        let name = match self {
            _ if oid == 0 => Some("-".to_owned()),
            Alias::Class => seen.relation(oid).map(|r| class_name(seen, r)),
            Alias::Namespace => seen.schema(oid).map(|s| quoted(&s.name)),
            Alias::Role => seen.roles.numbered(oid).map(|m| quoted(&m.name)),
            Alias::Type => Some(format_type(oid, None)),
            Alias::Proc => functions().0.get(&oid).map(|f| quoted(&f.name)),
            Alias::Procedure => functions().0.get(&oid).map(|f| f.with_types.clone()),
            Alias::Operator => operators().get(&oid).cloned(),
            Alias::Other => None,
        };
        name.unwrap_or_else(|| oid.to_string())
    }
}

fn class_name(seen: &Seen, relation: &Arc<Relation>) -> String {
    match seen.is_visible(relation) {
        true => quoted(&relation.name),
        false => format!("{}.{}", quoted(&relation.schema), quoted(&relation.name)),
    }
}

/// The number of the type of this name, as SQL or the catalog spells it.
fn type_of(name: &str) -> Option<i32> {
    static NAMES: OnceLock<HashMap<String, i32>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        // The numbers of PostgreSQL's own types.
        for oid in 1..FIRST_FREE {
            if let Some(ty) = Type::from_oid(oid as u32) {
                names.insert(ty.name().to_owned(), oid);
                names.entry(format_type(oid, None)).or_insert(oid);
            }
        }
        for (other, oid) in [("int", 23), ("decimal", 1700), ("timestamp", 1114), ("time", 1083)] {
            names.insert(other.to_owned(), oid);
        }
        names
    });
    let bare = name.trim().to_lowercase();
    let bare = bare.strip_prefix("pg_catalog.").unwrap_or(&bare);
    let bare = bare.trim_matches('"');
    let bare = match bare.split_once('(') {
        Some((before, after)) => format!("{}{}", before, after.split_once(')').map_or("", |a| a.1)),
        None => bare.to_owned(),
    };
    names.get(&bare).copied()
}

/// The first number that no type of PostgreSQL has.
const FIRST_FREE: i32 = 6_500;

/// A function of PostgreSQL's own.
struct Builtin {
    name: String,
    with_types: String,
}

/// They by number, and the numbers by name (the first of those that share one).
fn functions() -> &'static (HashMap<i32, Builtin>, HashMap<String, i32>) {
    static FUNCTIONS: OnceLock<(HashMap<i32, Builtin>, HashMap<String, i32>)> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let (mut by_oid, mut by_name) = (HashMap::new(), HashMap::new());
        let Ok(tables) = static_tables() else { return (by_oid, by_name) };
        for batch in tables.pg_proc.data() {
            let column = |name: &str, ty: &DataType| cast(batch.column_by_name(name)?, ty).ok();
            let numbers = DataType::new_list(DataType::Int32, true);
            let (Some(oids), Some(names), Some(types)) = (
                column("oid", &DataType::Int32),
                column("proname", &DataType::Utf8),
                column("proargtypes", &numbers),
            ) else {
                continue;
            };
            let pairs = oids.as_primitive::<Int32Type>().iter().zip(names.as_string::<i32>());
            for ((oid, name), types) in pairs.zip(types.as_list::<i32>().iter()) {
                let (Some(oid), Some(name)) = (oid, name) else { continue };
                let types: Vec<String> = types.map_or(vec![], |types| {
                    types
                        .as_primitive::<Int32Type>()
                        .iter()
                        .flatten()
                        .map(|ty| format_type(ty, None))
                        .collect()
                });
                let with_types = format!("{}({})", quoted(name), types.join(","));
                by_oid.insert(oid, Builtin { name: name.to_owned(), with_types });
                by_name.entry(name.to_owned()).or_insert(oid);
            }
        }
        (by_oid, by_name)
    })
}

/// The number of the first of PostgreSQL's own functions that have this name.
pub(super) fn number_of_function(name: &str) -> Option<i32> {
    functions().1.get(name).copied()
}

/// PostgreSQL's own operators with the types of their sides.
fn operators() -> &'static HashMap<i32, String> {
    static OPERATORS: OnceLock<HashMap<i32, String>> = OnceLock::new();
    OPERATORS.get_or_init(|| {
        let mut operators = HashMap::new();
        let Ok(tables) = static_tables() else { return operators };
        for batch in tables.pg_operator.data() {
            let number = |name: &str| cast(batch.column_by_name(name)?, &DataType::Int32).ok();
            let names = batch.column_by_name("oprname").and_then(|names| cast(names, &DataType::Utf8).ok());
            let (Some(oids), Some(lefts), Some(rights), Some(names)) =
                (number("oid"), number("oprleft"), number("oprright"), names)
            else {
                continue;
            };
            let side = |ty: i32| if ty == 0 { "NONE".to_owned() } else { format_type(ty, None) };
            for row in 0..batch.num_rows() {
                let of = |column: &ArrayRef| column.as_primitive::<Int32Type>().value(row);
                let name = names.as_string::<i32>().value(row);
                operators.insert(of(&oids), format!("{name}({},{})", side(of(&lefts)), side(of(&rights))));
            }
        }
        operators
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        for (text, read) in [
            ("Sales", vec!["sales"]),
            ("public.\"My \"\"own\"\".Table\"", vec!["public", "My \"own\".Table"]),
            (" pg_class ", vec!["pg_class"]),
        ] {
            assert_eq!(parts(text), read);
        }
        assert_eq!((quoted("sales"), quoted("Sales")), ("sales".to_owned(), "\"Sales\"".to_owned()));
        assert_eq!((type_of("int4"), type_of("timestamp with time zone")), (Some(23), Some(1184)));
        assert_eq!((type_of("text[]"), type_of("numeric(10,2)")), (Some(1009), Some(1700)));
    }
}
