//! Types by the name that SQL has for them: `timestamp without time zone`, `numeric(18,4)`, `text[]`.

use pgwire::api::Type;

use crate::pg::types;

/// The name of the type of this number, with what its modifier adds.
pub(super) fn format_type(oid: i32, modifier: Option<i32>) -> String {
    if oid == 0 {
        return "-".to_owned();
    }
    let Some(ty) = Type::from_oid(oid as u32) else { return "???".to_owned() };
    if let Some(element) = types::element_of(&ty) {
        return format!("{}[]", named(&element, modifier));
    }
    // An array of something that has no other name.
    match ty.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => named(&ty, modifier),
    }
}

fn named(ty: &Type, modifier: Option<i32>) -> String {
    let given = modifier.filter(|m| *m >= 0);
    let length = given.filter(|m| *m >= 4).map(|m| m - 4);
    let with_length = |name: &str| length.map_or(name.to_owned(), |n| format!("{name}({n})"));
    let fraction = |name: &str, rest: &str| match given {
        Some(digits) => format!("{name}({digits}) {rest}"),
        None => format!("{name} {rest}"),
    };
    match *ty {
        Type::BOOL => "boolean".to_owned(),
        Type::CHAR => "\"char\"".to_owned(),
        Type::INT2 => "smallint".to_owned(),
        Type::INT4 => "integer".to_owned(),
        Type::INT8 => "bigint".to_owned(),
        Type::FLOAT4 => "real".to_owned(),
        Type::FLOAT8 => "double precision".to_owned(),
        // Without a length it is `bpchar`, which SQL has no other name for.
        Type::BPCHAR if length.is_some() || modifier.is_none() => with_length("character"),
        Type::VARCHAR => with_length("character varying"),
        Type::NUMERIC => match length {
            Some(modifier) => format!("numeric({},{})", modifier >> 16, modifier & 0xffff),
            None => "numeric".to_owned(),
        },
        Type::TIME => fraction("time", "without time zone"),
        Type::TIMETZ => fraction("time", "with time zone"),
        Type::TIMESTAMP => fraction("timestamp", "without time zone"),
        Type::TIMESTAMPTZ => fraction("timestamp", "with time zone"),
        Type::BIT => given.map_or("bit".to_owned(), |n| format!("bit({n})")),
        Type::VARBIT => given.map_or("bit varying".to_owned(), |n| format!("bit varying({n})")),
        _ => ty.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_sql() {
        for (oid, modifier, name) in [
            (20, None, "bigint"),
            (1700, Some(((18 << 16) | 4) + 4), "numeric(18,4)"),
            (1700, Some((10 << 16) + 4), "numeric(10,0)"),
            (1700, Some(-1), "numeric"),
            (1043, Some(14), "character varying(10)"),
            (1184, Some(3), "timestamp(3) with time zone"),
            (1114, Some(-1), "timestamp without time zone"),
            (1009, Some(-1), "text[]"),
            (1231, Some(((18 << 16) | 4) + 4), "numeric(18,4)[]"),
            (22, None, "int2vector"),
            (1034, None, "aclitem[]"),
            (18, Some(-1), "\"char\""),
            (0, None, "-"),
            (99_999, None, "???"),
        ] {
            assert_eq!(format_type(oid, modifier), name);
        }
    }
}
