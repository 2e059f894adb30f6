//! Statements that differ in a value only have one plan: `WHERE rank = 5` is `WHERE rank = $1`, with 5.
//!
//! Only values that a column is compared with are taken, after the first WHERE, and only integers and strings: those
//! mean the same as a parameter of the column's type, if the column has their type. Whether it has, the plan says.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::split::tokens;

/// No longer statement is looked at.
const MAX_LENGTH: usize = 4 << 10;

/// A statement without its values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lifted {
    /// The text with `$1`, `$2`, … in their place.
    pub(super) sql: String,
    values: Vec<Literal>,
}

#[derive(Debug, PartialEq, Eq)]
enum Literal {
    Integer(i64),
    Text(String),
}

impl Lifted {
    /// Takes the values out of a statement; none where there is nothing to take, or it has parameters already.
    pub(super) fn of(sql: &str) -> Option<Lifted> {
        if sql.len() > MAX_LENGTH || sql.contains('$') {
            return None;
        }
        let tokens = tokens(sql);
        let text = |i: usize| tokens.get(i).map_or("", |t| &sql[t.clone()]);
        let first = (0..tokens.len()).find(|i| text(*i).eq_ignore_ascii_case("where"))?;
        let (mut lifted, mut copied, mut values) = (String::with_capacity(sql.len()), 0, vec![]);
        for i in first + 2..tokens.len() {
            let Some(value) = literal(text(i)).filter(|_| text(i + 1) != "." && is_compared(&text, i)) else {
                continue;
            };
            values.push(value);
            lifted.push_str(&sql[copied..tokens[i].start]);
            lifted.push('$');
            lifted.push_str(&values.len().to_string());
            copied = tokens[i].end;
        }
        lifted.push_str(&sql[copied..]);
        (!values.is_empty()).then_some(Lifted { sql: lifted, values })
    }

    /// The values, where they have these types.
    pub(super) fn values(&self, types: &[DataType]) -> Option<Vec<ScalarValue>> {
        if types.len() != self.values.len() {
            return None;
        }
        let typed = self.values.iter().zip(types).map(|(value, wanted)| match (value, wanted) {
            (Literal::Integer(n), DataType::Int64) => Some(ScalarValue::Int64(Some(*n))),
            (Literal::Text(text), DataType::Utf8) => Some(ScalarValue::Utf8(Some(text.clone()))),
            (Literal::Text(text), DataType::Utf8View) => Some(ScalarValue::Utf8View(Some(text.clone()))),
            _ => None,
        });
        typed.collect()
    }
}

/// An integer or a plain string.
fn literal(token: &str) -> Option<Literal> {
    if token.bytes().all(|b| b.is_ascii_digit()) {
        // More digits may be too many for a BIGINT.
        return (token.len() <= 18).then(|| token.parse().ok().map(Literal::Integer)).flatten();
    }
    let inner = token.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(Literal::Text(inner.replace("''", "'")))
}

/// Whether the token is what a name is compared with.
fn is_compared<'a>(text: &impl Fn(usize) -> &'a str, at: usize) -> bool {
    let mut begin = at;
    while begin > 0 && is_operator(text(begin - 1)) {
        begin -= 1;
    }
    let operator: String = (begin..at).map(text).collect();
    let name = if begin > 0 { text(begin - 1) } else { "" };
    matches!(operator.as_str(), "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=")
        && name.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '"'))
}

fn is_operator(token: &str) -> bool {
    token.len() == 1 && "+-*/<>=~!@#%^&|`?:".contains(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifted(sql: &str) -> Option<String> {
        Lifted::of(sql).map(|l| l.sql)
    }

    #[test]
    fn values_that_a_name_is_compared_with_are_taken() {
        assert_eq!(
            Lifted::of("SELECT 1 FROM t WHERE period = 'o''clock' AND \"rank\">=5 LIMIT 7"),
            Some(Lifted {
                sql: "SELECT 1 FROM t WHERE period = $1 AND \"rank\">=$2 LIMIT 7".into(),
                values: vec![Literal::Text("o'clock".into()), Literal::Integer(5)],
            })
        );
        assert_eq!(
            lifted("select a from t where t.a <> 1 and b != 'x' order by 1"),
            Some("select a from t where t.a <> $1 and b != $2 order by 1".into())
        );
    }

    #[test]
    fn everything_else_stays() {
        for sql in [
            "SELECT a = 5 FROM t",
            "SELECT a FROM t WHERE a = 1.5",
            "SELECT a FROM t WHERE a = -5",
            "SELECT a FROM t WHERE a = 1e5",
            "SELECT a FROM t WHERE a = DATE '2026-01-01'",
            "SELECT a FROM t WHERE a = INTERVAL '1 day'",
            "SELECT a FROM t WHERE a ->> 'x' IS NULL",
            "SELECT a FROM t WHERE f(a => 5)",
            "SELECT a FROM t WHERE a = E'x'",
            "SELECT a FROM t WHERE 5 = 5",
            "SELECT a FROM t WHERE a = $1 AND b = 5",
            "SELECT a FROM t WHERE a IN (1, 2) GROUP BY 1",
            "SELECT a FROM t WHERE a = 12345678901234567890",
            "SELECT a FROM t",
        ] {
            assert_eq!(lifted(sql), None, "{sql}");
        }
    }
}
