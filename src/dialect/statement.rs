//! Statements, before they are planned.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query, SetExpr, Statement,
    TableAliasColumnDef, TableFactor, Value, VisitMut, VisitorMut,
};

/// Puts a statement into words that the engine plans as PostgreSQL means them.
pub fn adapt(statement: &mut EngineStatement) {
    match statement {
        EngineStatement::Statement(statement) => {
            if let Statement::Insert(insert) = statement.as_mut()
                && let Some(query) = &mut insert.source
                && let SetExpr::Values(values) = query.body.as_mut()
            {
                let _ = VisitMut::visit(values, &mut Digits);
            }
            let _ = VisitMut::visit(statement.as_mut(), &mut Adapt);
        }
        EngineStatement::Explain(explain) => adapt(&mut explain.statement),
        _ => {}
    }
}

/// Numbers with a point are DECIMAL where they are to be stored: the engine's DOUBLE would lose digits.
struct Digits;

impl VisitorMut for Digits {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Value::Number(text, _) = &value.value else { return ControlFlow::Continue(()) };
        let Some((whole, fraction)) = text.split_once('.') else { return ControlFlow::Continue(()) };
        let digits = whole.len() + fraction.len();
        if digits <= 38 && fraction.bytes().all(|b| b.is_ascii_digit()) {
            let number = ExactNumberInfo::PrecisionAndScale(digits.max(1) as u64, fraction.len() as i64);
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::value(Value::SingleQuotedString(text.clone()))),
                data_type: DataType::Decimal(number),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

struct Adapt;

impl VisitorMut for Adapt {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // One clock is enough: the engine's does not go on within a statement.
        if let Expr::Function(function) = expr
            && let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice()
            && ["transaction_timestamp", "statement_timestamp", "clock_timestamp"]
                .contains(&name.value.to_lowercase().as_str())
        {
            function.name = ObjectName::from(vec![Ident::new("now")]);
        }
        // What PostgreSQL reads as a timestamp and the engine does not.
        let literal = match expr {
            Expr::TypedString(typed) if is_timestamp(&typed.data_type) => Some(&mut typed.value.value),
            Expr::Cast { expr, data_type, .. } if is_timestamp(data_type) => match expr.as_mut() {
                Expr::Value(value) => Some(&mut value.value),
                _ => None,
            },
            _ => None,
        };
        if let Some(Value::SingleQuotedString(text)) = literal
            && let Some(whole) = timestamp(text)
        {
            *text = whole;
        }
        // The engine makes another cast of it, which does not say which of the two a timestamp becomes.
        if let Expr::AtTimeZone { timestamp, time_zone } = expr {
            let (zone, time) = (time_zone.as_ref().clone(), timestamp.as_ref().clone());
            *expr = call("timezone", vec![zone, time]);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // FETCH FIRST 5 ROWS ONLY is the standard's LIMIT 5.
        let plain = query.fetch.as_ref().is_some_and(|f| !f.with_ties && !f.percent);
        if plain && let Some(fetch) = query.fetch.take() {
            let limit = fetch.quantity.or_else(|| Some(Expr::value(Value::Number("1".to_owned(), false))));
            match &mut query.limit_clause {
                Some(LimitClause::LimitOffset { limit: none @ None, .. }) => *none = limit,
                clause @ None => {
                    *clause = Some(LimitClause::LimitOffset { limit, offset: None, limit_by: vec![] });
                }
                Some(_) => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        // `FROM generate_series(1, 3) AS n`: the name is that of the column too.
        let (name, alias) = match table {
            TableFactor::Table { name, alias: Some(alias), args: Some(_), .. }
            | TableFactor::Function { name, alias: Some(alias), .. } => (name.to_string(), alias),
            _ => return ControlFlow::Continue(()),
        };
        let series = name.rsplit('.').next().is_some_and(|n| n.eq_ignore_ascii_case("generate_series"));
        if series && alias.columns.is_empty() {
            alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
        }
        ControlFlow::Continue(())
    }
}

fn is_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(..) => true,
        DataType::Custom(name, _) => name.to_string().eq_ignore_ascii_case("timestamptz"),
        _ => false,
    }
}

/// A timestamp with its seconds, and `epoch` as a number.
fn timestamp(text: &str) -> Option<String> {
    if text.trim().eq_ignore_ascii_case("epoch") {
        return Some("1970-01-01 00:00:00".to_owned());
    }
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let minutes = time.len() == 5 && time.as_bytes()[2] == b':' && date.len() == 10;
    minutes.then(|| format!("{date} {time}:00"))
}

/// `name(arguments)`
pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
