//! `COMMENT ON TABLE | COLUMN | VIEW | MATERIALIZED VIEW … IS '…'`.

use datafusion::sql::sqlparser::ast::{CommentObject, ObjectName, Statement as SqlStatement};

use super::parse::{normal, table_name};
use super::run::{Outcome, Session};
use crate::catalog::comments::Comments;
use crate::catalog::options::ObjectKind;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;

const TAG: &str = "COMMENT";
/// Times that a change is planned again after losing to another.
const TRIES: usize = 20;

impl Session {
    /// Keeps a comment, or takes it away.
    pub(super) async fn comment(&self, statement: &SqlStatement) -> Result<Outcome> {
        let SqlStatement::Comment { object_type, object_name, comment, if_exists, .. } = statement else {
            return Err(Error::internal("not a COMMENT"));
        };
        let mut parts = identifiers(object_name)?;
        let column = match object_type {
            CommentObject::Column if parts.len() > 1 => parts.pop(),
            CommentObject::Table | CommentObject::View | CommentObject::MaterializedView => None,
            other => {
                return Err(Error::not_supported(format!("{TAG} ON {other} is not possible")).with_hint(
                    "tables, views, materialized views and their columns (a_table.a_column) have comments",
                ));
            }
        };
        let name = table_name(parts)?;
        // An empty one is none, as in PostgreSQL.
        let comment = comment.clone().filter(|text| !text.is_empty());
        let mut lost = None;
        for _ in 0..TRIES {
            let Some(table) = self.warehouse.table(&name).await? else {
                return match if_exists {
                    true => Ok(Outcome::done(TAG)),
                    false => Err(Error::undefined_table(format!("there is no table or view '{name}'"))
                        .with_name(&name)),
                };
            };
            let on = table.update().await?;
            let mut metadata = on.metadata.as_ref().clone();
            check_kind(*object_type, &name, ObjectKind::of(&metadata.configuration))?;
            let mut comments = Comments::of(&metadata.configuration);
            match &column {
                None => comments.table.clone_from(&comment),
                Some(column) if on.schema.column_with_name(column).is_none() => {
                    return Err(Error::undefined_column(format!("'{name}' has no column '{column}'")));
                }
                Some(column) => match &comment {
                    Some(text) => drop(comments.columns.insert(column.clone(), text.clone())),
                    None => drop(comments.columns.remove(column)),
                },
            }
            comments.write(&mut metadata.configuration)?;
            if metadata.configuration == on.metadata.configuration {
                return Ok(Outcome::done(TAG));
            }
            let mut change = Change::new(CommitKind::Metadata, TAG, &on);
            change.metadata = Some(metadata);
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                Err(e) => return Err(e.context(format!("table '{name}'"))),
                Ok(_) => return Ok(Outcome::done(TAG)),
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }
}

fn check_kind(object: CommentObject, name: &str, kind: ObjectKind) -> Result<()> {
    let fits = match object {
        CommentObject::Table => matches!(kind, ObjectKind::Table | ObjectKind::External),
        CommentObject::View => kind == ObjectKind::View,
        CommentObject::MaterializedView => matches!(kind, ObjectKind::Rollup | ObjectKind::Leaderboard),
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => Err(Error::wrong_object_type(format!("'{name}' is {}", kind.with_article()))),
    }
}

fn identifiers(name: &ObjectName) -> Result<Vec<String>> {
    let parts = name.0.iter().map(|part| part.as_ident().map(normal));
    parts.collect::<Option<_>>().ok_or_else(|| Error::syntax(format!("'{name}' is not a name")))
}
