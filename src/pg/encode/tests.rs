use super::*;
use datafusion::arrow::datatypes::i256;
use datafusion::scalar::ScalarValue;

fn one(value: &ScalarValue, zone: Tz) -> (String, Vec<u8>) {
    let array = value.to_array().unwrap();
    let column = Column::new(&array).unwrap();
    let style = Style { zone };
    let (mut text, mut binary) = (BytesMut::new(), BytesMut::new());
    write_value(&column, 0, false, style, &mut text).unwrap();
    let _ = write_value(&column, 0, true, style, &mut binary);
    (String::from_utf8(text[4..].to_vec()).unwrap(), binary.get(4..).unwrap_or_default().to_vec())
}

fn text(value: ScalarValue) -> String {
    one(&value, Tz::UTC).0
}

#[test]
fn floats_are_written_as_postgres_does() {
    for (value, shown) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (1e14, "100000000000000"),
        (1e15, "1e+15"),
        (1.25e100, "1.25e+100"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (123456.789, "123456.789"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(text(ScalarValue::Float64(Some(value))), shown);
    }
    assert_eq!(text(ScalarValue::Float32(Some(0.1))), "0.1");
    assert_eq!(text(ScalarValue::Float32(Some(123456.0))), "123456");
    assert_eq!(text(ScalarValue::Float32(Some(1234567.0))), "1.234567e+06");
}

#[test]
fn decimals_of_any_width() {
    for (value, scale, shown, binary) in [
        (0i128, 2, "0.00", vec![0, 0, 0, 2]),
        (12345, 2, "123.45", vec![2, 0, 0, 2, 123, 4500]),
        (-5, 4, "-0.0005", vec![1, -1, 0x4000, 4, 5]),
        (10_000, 0, "10000", vec![1, 1, 0, 0, 1]),
        (12, -3, "12000", vec![2, 1, 0, 0, 1, 2000]),
        (1, 5, "0.00001", vec![1, -2, 0, 5, 1000]),
        (100_000_001, 4, "10000.0001", vec![3, 1, 0, 4, 1, 0, 1]),
    ] {
        let (text, bytes) = one(&ScalarValue::Decimal128(Some(value), 38, scale), Tz::UTC);
        let bytes: Vec<i16> = bytes.chunks(2).map(|c| i16::from_be_bytes([c[0], c[1]])).collect();
        assert_eq!((text.as_str(), bytes), (shown, binary));
    }
    let wide = i256::from_string("-123456789012345678901234567890123456789012345678901234567890").unwrap();
    assert_eq!(
        text(ScalarValue::Decimal256(Some(wide), 76, 10)),
        "-12345678901234567890123456789012345678901234567890.1234567890"
    );
    assert_eq!(text(ScalarValue::Decimal128(Some(i128::MAX), 38, 0)), i128::MAX.to_string());
    assert_eq!(text(ScalarValue::UInt64(Some(u64::MAX))), u64::MAX.to_string());
}

#[test]
fn dates_and_times() {
    let at = |micros| ScalarValue::TimestampMicrosecond(Some(micros), None);
    let tz = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
    assert_eq!(text(at(0)), "1970-01-01 00:00:00");
    assert_eq!(text(at(-1)), "1969-12-31 23:59:59.999999");
    assert_eq!(text(at(1_500_000)), "1970-01-01 00:00:01.5");
    assert_eq!(text(ScalarValue::TimestampNanosecond(Some(1_500_000_000), None)), "1970-01-01 00:00:01.5");
    assert_eq!(text(ScalarValue::Date32(Some(-719_163))), "0001-12-31 BC");
    assert_eq!(text(ScalarValue::Date32(Some(2_932_897))), "10000-01-01");
    assert_eq!(text(ScalarValue::Time64Microsecond(Some(86_399_000_100))), "23:59:59.0001");
    assert_eq!(one(&tz(0), Tz::UTC).0, "1970-01-01 00:00:00+00");
    assert_eq!(one(&tz(0), Tz::Asia__Kolkata).0, "1970-01-01 05:30:00+05:30");
    assert_eq!(one(&tz(0), Tz::America__New_York).0, "1969-12-31 19:00:00-05");
    // The eve of the change to summer time, and the day after.
    assert_eq!(one(&tz(1_711_846_800_000_000), Tz::Europe__Berlin).0, "2024-03-31 03:00:00+02");
    assert_eq!(one(&at(0), Tz::UTC).1, (-946_684_800_000_000i64).to_be_bytes());
    assert_eq!(one(&ScalarValue::Date32(Some(10_957)), Tz::UTC).1, [0; 4]);
}

#[test]
fn intervals() {
    for (months, days, nanos, shown) in [
        (0, 0, 0, "00:00:00"),
        (14, 3, 14_706_700_000_000, "1 year 2 mons 3 days 04:05:06.7"),
        (1, 0, 0, "1 mon"),
        (-1, 2, 0, "-1 mons +2 days"),
        (0, -1, 3_600_000_000_000, "-1 days +01:00:00"),
        (0, 0, -1_000_000, "-00:00:00.001"),
        (0, 0, 360_000_000_000_000, "100:00:00"),
    ] {
        assert_eq!(text(ScalarValue::new_interval_mdn(months, days, nanos)), shown);
    }
    assert_eq!(text(ScalarValue::DurationSecond(Some(90))), "00:01:30");
}

#[test]
fn arrays_and_records() {
    let list = |values: &[ScalarValue]| {
        let item = values.first().map_or(DataType::Utf8, ScalarValue::data_type);
        ScalarValue::List(ScalarValue::new_list_nullable(values, &item))
    };
    let strings = ["a", "b c", "", "null", "q\"\\", "{,}"].map(ScalarValue::from);
    assert_eq!(text(list(&strings)), r#"{a,"b c","","null","q\"\\","{,}"}"#);
    assert_eq!(text(list(&[ScalarValue::Int32(Some(1)), ScalarValue::Int32(None)])), "{1,NULL}");
    assert_eq!(text(list(&[])), "{}");
    let nested = list(&[list(&[ScalarValue::Int32(Some(1))]), list(&[ScalarValue::Int32(Some(2))])]);
    assert_eq!(text(nested), "{{1},{2}}");

    let record = datafusion::common::scalar::ScalarStructBuilder::new()
        .with_scalar(Field::new("a", DataType::Utf8, true), ScalarValue::from("x, \"y\""))
        .with_scalar(Field::new("b", DataType::Int64, true), ScalarValue::Int64(None))
        .with_scalar(Field::new("c", DataType::Int64, true), ScalarValue::Int64(Some(7)))
        .build()
        .unwrap();
    assert_eq!(text(record.clone()), r#"("x, ""y""",,7)"#);
    assert_eq!(text(list(&[record])), r#"{"(\"x, \"\"y\"\"\",,7)"}"#);
}

#[test]
fn a_null_is_a_null_of_any_type() {
    for null in [
        ScalarValue::Null,
        ScalarValue::IntervalMonthDayNano(None),
        ScalarValue::Decimal128(None, 38, 2),
        ScalarValue::TimestampSecond(None, Some("UTC".into())),
        ScalarValue::new_null_list(DataType::Int32, true, 1),
    ] {
        let array = null.to_array().unwrap();
        let column = Column::new(&array).unwrap();
        let mut out = BytesMut::new();
        write_value(&column, 0, true, Style { zone: Tz::UTC }, &mut out).unwrap();
        assert_eq!(&out[..], (-1i32).to_be_bytes(), "{null:?}");
    }
}
