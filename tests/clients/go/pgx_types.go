package main

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// typed is a row of the table `types`.
type typed struct {
	id   int64
	b    *bool
	i2   *int16
	i4   *int32
	i8   *int64
	f4   *float32
	f8   *float64
	n    pgtype.Numeric
	t    *string
	by   []byte
	d    pgtype.Date
	ts   pgtype.Timestamp
	tz   *time.Time
	i4s  []int32
	list []string
}

func (r *typed) places() []any {
	return []any{&r.id, &r.b, &r.i2, &r.i4, &r.i8, &r.f4, &r.f8, &r.n, &r.t, &r.by, &r.d, &r.ts, &r.tz, &r.i4s, &r.list}
}

func (r *typed) values() []any {
	return []any{r.id, r.b, r.i2, r.i4, r.i8, r.f4, r.f8, r.n, r.t, r.by, r.d, r.ts, r.tz, r.i4s, r.list}
}

// String shows every value, to the digit.
func (r *typed) String() string {
	at := "NULL"
	if r.tz != nil {
		at = r.tz.UTC().Format(time.RFC3339Nano)
	}
	date, _ := r.d.Value()
	stamp, _ := r.ts.Value()
	number, _ := r.n.Value()
	list := "NULL"
	if r.list != nil {
		list = fmt.Sprintf("%q", r.list)
	}
	bytes := "NULL"
	if r.by != nil {
		bytes = fmt.Sprintf("%x", r.by)
	}
	integers := "NULL"
	if r.i4s != nil {
		integers = fmt.Sprint(r.i4s)
	}
	return line([]any{r.id, shown(r.b), shown(r.i2), shown(r.i4), shown(r.i8), shown(r.f4), shown(r.f8), number, shown(r.t),
		bytes, date, stamp, at, integers, list})
}

func shown[T any](value *T) any {
	if value == nil {
		return nil
	}
	return *value
}

func pointer[T any](value T) *T { return &value }

// typedRows are those of fixture.sql, as String shows them.
var typedRows = []string{
	`1|true|32767|2147483647|9223372036854775807|1.5|0.1|12345678901234.5678|Zoë's "tea"|00ff10|2026-01-31 00:00:00 +0000 UTC|` +
		`2026-01-31 23:59:59.123456 +0000 UTC|2026-01-31T23:59:59.123456Z|[1 2 3]|["a" "b c"]`,
	`2|false|-32768|-2147483648|-9223372036854775808|-1.5|-0.1|-0.0001|||1969-07-20 00:00:00 +0000 UTC|` +
		`1969-07-20 20:17:40 +0000 UTC|1969-07-20T20:17:40Z|[-1]|[""]`,
	`3|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL`,
}

const (
	selectTypes = `SELECT id, b, i2, i4, i8, f4, f8, n, t, "by", d, ts, tz, i4s, ts_list FROM types WHERE id = $1`
	insertTypes = `INSERT INTO types (id, b, i2, i4, i8, f4, f8, n, t, "by", d, ts, tz, i4s, ts_list)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`
)

// pgxTypes reads what is there, in text and in binary, and writes it again.
func pgxTypes(ctx context.Context, conn *pgx.Conn) error {
	defer conn.Exec(ctx, "DELETE FROM types WHERE id BETWEEN 10 AND 99")
	var problems []error
	for i, want := range typedRows {
		for name, format := range map[string]int16{"text": pgx.TextFormatCode, "binary": pgx.BinaryFormatCode} {
			what := fmt.Sprintf("row %d in %s", i+1, name)
			var row typed
			arguments := []any{pgx.QueryResultFormats{format}, i + 1}
			if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
				arguments = arguments[1:]
			}
			err := conn.QueryRow(ctx, selectTypes, arguments...).Scan(row.places()...)
			problems = append(problems, in(what, err))
			if err != nil {
				continue
			}
			problems = append(problems, same(what, row.String(), want))
			if name == "binary" {
				row.id += 10
				_, err = conn.Exec(ctx, insertTypes, row.values()...)
				problems = append(problems, in(fmt.Sprintf("insert of row %d", i+1), err))
				var again typed
				err = conn.QueryRow(ctx, selectTypes, row.id).Scan(again.places()...)
				problems = append(problems, in(fmt.Sprintf("row %d again", i+1), err), same("again", again.String(), row.String()))
			}
		}
	}
	return all(problems...)
}

// pgxParameters gives values for parameters that stand for themselves.
func pgxParameters(ctx context.Context, conn *pgx.Conn) error {
	at := timestamp("2026-03-29 01:30:00.000001")
	var problems []error
	echo := func(of string, value any) {
		got := reflect.New(reflect.TypeOf(value))
		err := conn.QueryRow(ctx, "SELECT $1::"+of, value).Scan(got.Interface())
		problems = append(problems, in(of, err))
		if err != nil {
			return
		}
		if at, is := got.Elem().Interface().(time.Time); is {
			got = reflect.ValueOf(pointer(at.UTC()))
		}
		problems = append(problems, same(of, fmt.Sprintf("%#v", got.Elem().Interface()), fmt.Sprintf("%#v", value)))
	}
	echo("smallint", int16(-7))
	echo("int", int32(math.MinInt32))
	echo("bigint", int64(math.MaxInt64))
	echo("real", float32(0.25))
	echo("double precision", 1e-7)
	echo("text", `'; DROP TABLE notes; -- \ "`)
	echo("varchar", "ü€😀")
	echo("boolean", true)
	echo("timestamp", at)
	echo("timestamptz", at)
	echo("date", timestamp("2026-03-29 00:00:00"))
	echo("numeric(10,2)", "-0.05")
	var number string
	digits := "1000000000000000000000000000.0000000001"
	var exact pgtype.Numeric
	err := exact.Scan(digits)
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT ($1::numeric(38,10))::text", exact).Scan(&number)
	}
	problems = append(problems, in("numeric(38,10)", err), same("numeric(38,10)", number, digits))
	var missing *string
	err = conn.QueryRow(ctx, "SELECT $1::text", nil).Scan(&missing)
	problems = append(problems, in("NULL", err), same("NULL", missing == nil, true))
	var count int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM sales WHERE customer_id IN ($1, $2) AND quantity BETWEEN $3 AND $4", "customer-1", "customer-2", 0, 3).Scan(&count)
	problems = append(problems, in("IN", err), same("sales of two customers", count > 0, true))
	if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol {
		// In the simple protocol they are texts in the statement, which the engine does not read as PostgreSQL does.
		echo("interval", 90*time.Minute)
		echo("bytea", []byte{0, 255, '\\', '\''})
		echo("int[]", []int32{1, -2})
		echo("bigint[]", []int64{})
		echo("text[]", []string{`a "b"`, "", "NULL", `\`})
		echo("boolean[]", []pgtype.Bool{{Bool: true, Valid: true}, {}})
		err = conn.QueryRow(ctx, "SELECT count(*) FROM sales WHERE country = ANY($1) AND event_time >= $2 LIMIT $3",
			[]string{"France", "Peru"}, timestamp("2026-01-30 00:00:00"), 5).Scan(&count)
		problems = append(problems, in("ANY", err), same("sales in France", count, 480))
	}
	return all(problems...)
}
