//! `docs/functions.md` is what the functions say of themselves.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use datafusion::logical_expr::Documentation;
use datafusion::prelude::SessionContext;

use crate::harness::Home;

const HEAD: &str = "# SQL functions

What toplake adds to the [functions of Apache DataFusion](https://datafusion.apache.org/user-guide/sql/). Generated from the code:
`TOPLAKE_WRITE_DOCS=1 cargo test --test it -- function_reference` writes this file.
";

fn section(text: &mut String, name: &str, doc: &Documentation) {
    writeln!(text, "\n### `{name}`\n\n{}\n\n```sql\n{}\n```", doc.description, doc.syntax_example).unwrap();
    if let Some(arguments) = &doc.arguments {
        text.push('\n');
        for (argument, what) in arguments {
            writeln!(text, "- `{argument}`: {what}").unwrap();
        }
    }
    if let Some(example) = &doc.sql_example {
        writeln!(text, "\n{example}").unwrap();
    }
}

#[tokio::test]
async fn every_function_is_documented_as_the_code_says() {
    let home = Home::new();
    let ours = home.desk().await.engine.context().state();
    let engine = SessionContext::new().state();
    let known: HashSet<&String> =
        engine.scalar_functions().keys().chain(engine.aggregate_functions().keys()).collect();
    let scalars = ours.scalar_functions().iter().map(|(name, f)| (name, f.documentation()));
    let aggregates = ours.aggregate_functions().iter().map(|(name, f)| (name, f.documentation()));
    let mut sections: BTreeMap<&str, BTreeMap<&String, &Documentation>> = BTreeMap::new();
    for (name, documentation) in scalars.chain(aggregates) {
        // The PostgreSQL front end's `pg_…` functions are for clients, not for people.
        let Some(doc) = documentation.filter(|_| !known.contains(name)) else { continue };
        sections.entry(doc.doc_section.label).or_default().insert(name, doc);
    }
    assert!(sections.len() >= 2, "{sections:?}");
    for function in toplake_udfs::all_scalar_functions().iter().map(|f| (f.name(), f.documentation())) {
        assert!(function.1.is_some(), "{} is not documented", function.0);
    }
    let mut text = HEAD.to_owned();
    for (label, functions) in &sections {
        writeln!(text, "\n## {label}").unwrap();
        functions.iter().for_each(|(name, doc)| section(&mut text, name, doc));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/functions.md");
    if std::env::var_os("TOPLAKE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "docs/functions.md is not up to date; it says how to write it anew");
}
