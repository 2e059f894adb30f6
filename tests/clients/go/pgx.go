package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// modes are all ways in which pgx sends a statement with values.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func pgxChecks() []check {
	return []check{
		{"connect", pgxConnect},
		{"metadata", withPgx(pgxMetadata)},
		{"types", inAllModes(pgxTypes)},
		{"parameters", inAllModes(pgxParameters)},
		{"large", withPgx(pgxLarge)},
		{"cursor", withPgx(pgxCursor)},
		{"cancel", withPgx(pgxCancel)},
		{"context", withPgx(pgxContext)},
		{"error", inAllModes(pgxError)},
		{"copy", withPgx(pgxCopyText)},
		{"copy from", withPgx(pgxCopyFrom)},
		{"transaction", inAllModes(pgxTransaction)},
		{"isolation", withPgx(pgxIsolation)},
		{"batch", inAllModes(pgxBatch)},
		{"pool", pgxPool},
		{"stdlib", pgxStdlib},
	}
}

// pgxConfig reads the PG… variables.
func pgxConfig() *pgx.ConnConfig {
	config, err := pgx.ParseConfig("application_name=pgx")
	if err != nil {
		panic(err)
	}
	return config
}

func withPgx(run func(context.Context, *pgx.Conn) error) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := pgx.ConnectConfig(ctx, pgxConfig())
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		return run(ctx, conn)
	}
}

// inAllModes runs a check in each mode, over a connection of its own.
func inAllModes(run func(context.Context, *pgx.Conn) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var problems []error
		for _, mode := range modes {
			config := pgxConfig()
			config.DefaultQueryExecMode = mode
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return err
			}
			problems = append(problems, in("mode "+mode.String(), run(ctx, conn)))
			conn.Close(ctx)
		}
		return all(problems...)
	}
}

// state is the SQLSTATE of an error, or what else it says.
func state(err error) string {
	var failure *pgconn.PgError
	if errors.As(err, &failure) {
		return failure.Code
	}
	return fmt.Sprint(err)
}

func pgxConnect(ctx context.Context) error {
	config := pgxConfig()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	session, encrypted := conn.PgConn().Conn().(*tls.Conn)
	if !encrypted || len(session.ConnectionState().VerifiedChains) == 0 {
		return errors.New("not encrypted and verified")
	}
	wrong := config.Copy()
	wrong.Password = "wrong"
	_, err = pgx.ConnectConfig(ctx, wrong)
	return all(
		same("a wrong password", state(err), "28P01"),
		same("standard_conforming_strings", conn.PgConn().ParameterStatus("standard_conforming_strings"), "on"),
		in("ping", conn.Ping(ctx)),
	)
}

func pgxMetadata(ctx context.Context, conn *pgx.Conn) error {
	var problems []error
	for _, q := range catalogQuestions {
		rows, err := conn.Query(ctx, q.sql, q.arguments...)
		if err != nil {
			problems = append(problems, in(q.name, err))
			continue
		}
		lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			values, err := row.Values()
			return line(values), err
		})
		problems = append(problems, in(q.name, err))
		if err == nil {
			problems = append(problems, same(q.name, strings.Join(lines, "; "), strings.Join(q.want, "; ")))
		}
	}
	// What pgx learns of a type that it does not know.
	for name, oid := range map[string]uint32{"bigint": pgtype.Int8OID, "timestamptz": pgtype.TimestamptzOID, "text[]": pgtype.TextArrayOID} {
		var got uint32
		err := conn.QueryRow(ctx, "SELECT $1::text::regtype::oid", name).Scan(&got)
		problems = append(problems, in("number of "+name, err), same("number of "+name, got, oid))
	}
	element, err := conn.LoadType(ctx, "text[]")
	problems = append(problems, in("load text[]", err))
	if err == nil {
		problems = append(problems, same("text[]", element.OID, pgtype.TextArrayOID))
	}
	rows, err := conn.Query(ctx, "SELECT * FROM notes")
	if err != nil {
		return all(append(problems, err)...)
	}
	var columns []string
	for _, field := range rows.FieldDescriptions() {
		columns = append(columns, fmt.Sprintf("%s %d %d", field.Name, field.DataTypeOID, field.TypeModifier))
	}
	rows.Close()
	return all(append(problems, rows.Err(), same("columns", columns, "[id 20 -1 note 25 -1 price 1700 655366 at 1184 -1]"))...)
}

// line joins values as catalogQuestions has them.
func line(values []any) string {
	var texts []string
	for _, value := range values {
		switch value := value.(type) {
		case nil:
			texts = append(texts, "NULL")
		case []byte:
			texts = append(texts, string(value))
		default:
			texts = append(texts, fmt.Sprint(value))
		}
	}
	return strings.Join(texts, "|")
}

const million = "SELECT n, 'row ' || CAST(n AS VARCHAR) FROM generate_series(1, 1000000) AS g(n)"

func pgxLarge(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, million)
	if err != nil {
		return err
	}
	var count, sum, n int64
	var text string
	_, err = pgx.ForEachRow(rows, []any{&n, &text}, func() error {
		count, sum = count+1, sum+n
		return same("text", text, fmt.Sprintf("row %d", n))
	})
	return all(err, same("count", count, 1_000_000), same("sum", sum, 500_000_500_000))
}

func pgxCursor(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DECLARE numbers CURSOR FOR "+million); err != nil {
			return err
		}
		var all, sum int64
		for {
			rows, err := tx.Query(ctx, "FETCH FORWARD 30000 FROM numbers")
			if err != nil {
				return err
			}
			var n, count int64
			var text string
			_, err = pgx.ForEachRow(rows, []any{&n, &text}, func() error { sum, count = sum+n, count+1; return nil })
			if err != nil {
				return err
			}
			if all += count; count == 0 {
				break
			}
		}
		if _, err := tx.Exec(ctx, "CLOSE numbers"); err != nil {
			return err
		}
		return same("rows and sum", fmt.Sprint(all, sum), "1000000 500000500000")
	})
}

func pgxCancel(ctx context.Context, conn *pgx.Conn) error {
	canceled := make(chan error, 1)
	go func() { canceled <- untilRuns(ctx, func() error { return conn.PgConn().CancelRequest(ctx) }) }()
	_, err := conn.Exec(ctx, endless)
	var one int
	return all(
		in("cancel request", <-canceled), same("SQLSTATE", state(err), "57014"),
		in("afterwards", conn.QueryRow(ctx, "SELECT 1").Scan(&one)), same("one", one, 1),
	)
}

// active counts connections that run the endless query.
func active(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1`, endless).Scan(&n)
	return n, err
}

// untilRuns does something once another connection's endless query runs.
func untilRuns(ctx context.Context, act func() error) error {
	return withPgx(func(ctx context.Context, conn *pgx.Conn) error {
		for n := 0; n == 0; {
			var err error
			if n, err = active(ctx, conn); err != nil {
				return err
			}
		}
		return act()
	})(ctx)
}

// pgxContext: a context that ends closes pgx's connection, and the server stops the query.
func pgxContext(ctx context.Context, conn *pgx.Conn) error {
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	canceled := make(chan error, 1)
	go func() { canceled <- untilRuns(ctx, func() error { cancel(); return nil }) }()
	_, err := conn.Exec(short, endless)
	if !errors.Is(err, context.Canceled) {
		return all(fmt.Errorf("not canceled: %w", err), <-canceled)
	}
	return all(<-canceled, withPgx(func(ctx context.Context, other *pgx.Conn) error {
		for n := 1; n > 0; {
			if n, err = active(ctx, other); err != nil {
				return in("the query goes on", err)
			}
		}
		return nil
	})(ctx))
}

func pgxError(ctx context.Context, conn *pgx.Conn) error {
	var n int
	err := conn.QueryRow(ctx, "SELECT id, prize FROM notes").Scan(&n, &n)
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return fmt.Errorf("no error of the server: %w", err)
	}
	problems := []error{
		same("SQLSTATE", failure.Code, "42703"), same("position", failure.Position, 12),
		same("severity", failure.Severity, "ERROR"),
	}
	if !strings.Contains(failure.Message, "prize") {
		problems = append(problems, fmt.Errorf("the message does not name the column: %s", failure.Message))
	}
	_, err = conn.Exec(ctx, "SELEC 1")
	problems = append(problems, same("a typing error", state(err), "42601"))
	_, err = conn.Exec(ctx, "SELECT 1 / $1::bigint", 0)
	problems = append(problems, same("division by zero", state(err), "22012"))
	return all(append(problems, conn.QueryRow(ctx, "SELECT 1").Scan(&n), same("one", n, 1))...)
}

// pgxCopyText: rows as text, through the level below pgx.
func pgxCopyText(ctx context.Context, conn *pgx.Conn) error {
	low := conn.PgConn()
	defer conn.Exec(ctx, "DELETE FROM notes WHERE id BETWEEN 2000 AND 2999")
	input := "2001\ta\\tb\t1.50\t2026-01-31 12:00:00+00\n2002\t\\N\t\\N\t\\N\n"
	tag, err := low.CopyFrom(ctx, strings.NewReader(input), "COPY notes FROM STDIN")
	if err != nil {
		return err
	}
	var output bytes.Buffer
	out, err := low.CopyTo(ctx, &output, "COPY (SELECT * FROM notes WHERE id BETWEEN 2000 AND 2999 ORDER BY id) TO STDOUT")
	if err != nil {
		return err
	}
	var csv bytes.Buffer
	_, err = low.CopyTo(ctx, &csv, "COPY (SELECT id, note FROM notes WHERE id BETWEEN 2000 AND 2999 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
	_, bad := low.CopyFrom(ctx, strings.NewReader("2003\tx\n"), "COPY notes FROM STDIN")
	_, broken := low.CopyFrom(ctx, io.MultiReader(strings.NewReader("2004\tx\t1\t\\N\n"), failing{}), "COPY notes FROM STDIN")
	var count int
	return all(
		err, same("rows in", tag, "COPY 2"), same("rows out", out, "COPY 2"), same("text", output.String(), input),
		same("csv", csv.String(), "id,note\n2001,a\tb\n2002,\n"), same("a bad row", state(bad), "22P04"),
		same("a reader that fails", state(broken), "57014"),
		conn.QueryRow(ctx, "SELECT count(*) FROM notes WHERE id BETWEEN 2000 AND 2999").Scan(&count), same("rows afterwards", count, 2),
	)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// pgxCopyFrom is binary.
func pgxCopyFrom(ctx context.Context, conn *pgx.Conn) error {
	defer conn.Exec(ctx, "DELETE FROM notes WHERE id BETWEEN 3000 AND 3999")
	at := timestamp("2026-01-31 12:00:00.000001")
	source := pgx.CopyFromSlice(500, func(i int) ([]any, error) {
		if i == 7 {
			return []any{3000 + i, nil, nil, nil}, nil
		}
		return []any{3000 + i, fmt.Sprintf("note %d", i), fmt.Sprintf("%d.25", i), at}, nil
	})
	rows, err := conn.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"id", "note", "price", "at"}, source)
	if err != nil {
		return err
	}
	var count, texts int
	var price string
	var latest time.Time
	err = conn.QueryRow(ctx, `SELECT count(*), count(note), sum(price)::text, max("at") FROM notes WHERE id BETWEEN 3000 AND 3999`).
		Scan(&count, &texts, &price, &latest)
	return all(err, same("copied", rows, 500), same("rows", count, 500), same("texts", texts, 499),
		same("sum", price, "124867.75"), same("time", latest.UTC(), at))
}

func pgxTransaction(ctx context.Context, conn *pgx.Conn) error {
	defer conn.Exec(ctx, "DELETE FROM notes WHERE id BETWEEN 4000 AND 4999")
	insert := "INSERT INTO notes (id, note) VALUES ($1, $2)"
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, insert, 4001, "rolled back"); err != nil {
		return err
	}
	inside, err := ids(ctx, tx)
	if err = all(err, same("what the transaction sees", inside, "[4001]"), tx.Rollback(ctx)); err != nil {
		return err
	}
	outside, err := ids(ctx, conn)
	if err = all(err, same("after the rollback", outside, "[]")); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insert, 4002, "kept"); err != nil {
			return err
		}
		// A transaction in a transaction is a savepoint.
		undone := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			if _, err := inner.Exec(ctx, insert, 4003, "undone"); err != nil {
				return err
			}
			_, err := inner.Exec(ctx, "SELECT nothing FROM nowhere")
			return err
		})
		return all(same("an error in the inner one", state(undone), "42P01"), pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, insert, 4004, "kept, too")
			return err
		}))
	})
	outside, asked := ids(ctx, conn)
	return all(err, asked, same("after the commit", outside, "[4002 4004]"))
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func ids(ctx context.Context, q querier) ([]int64, error) {
	rows, err := q.Query(ctx, "SELECT id FROM notes WHERE id BETWEEN 4000 AND 4999 ORDER BY id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

func pgxIsolation(ctx context.Context, conn *pgx.Conn) error {
	var problems []error
	for _, options := range []pgx.TxOptions{
		{IsoLevel: pgx.ReadCommitted}, {IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable},
	} {
		problems = append(problems, in(fmt.Sprint(options), pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
			var level, readOnly string
			if err := tx.QueryRow(ctx, "SHOW transaction_isolation").Scan(&level); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, "SHOW transaction_read_only").Scan(&readOnly); err != nil {
				return err
			}
			want := map[bool]string{true: "on", false: "off"}[options.AccessMode == pgx.ReadOnly]
			problem := all(same("level", level, options.IsoLevel), same("read only", readOnly, want))
			if want == "on" && problem == nil {
				_, err := tx.Exec(ctx, "INSERT INTO notes (id) VALUES (4999)")
				problem = same("an INSERT in a read-only transaction", state(err), "25006")
				if problem == nil {
					return tx.Rollback(ctx)
				}
			}
			return problem
		})))
	}
	for i, problem := range problems {
		if errors.Is(problem, pgx.ErrTxClosed) {
			problems[i] = nil
		}
	}
	return all(problems...)
}

func pgxBatch(ctx context.Context, conn *pgx.Conn) error {
	defer conn.Exec(ctx, "DELETE FROM notes WHERE id BETWEEN 5000 AND 5999")
	batch := &pgx.Batch{}
	for i := 0; i < 200; i++ {
		batch.Queue("INSERT INTO notes (id, note, price) VALUES ($1, $2, $3)", 5000+i, fmt.Sprint("note ", i), fmt.Sprintf("%d.5", i))
	}
	var count int
	batch.Queue("SELECT count(*) FROM notes WHERE id BETWEEN $1 AND $2", 5000, 5999).QueryRow(func(row pgx.Row) error {
		return row.Scan(&count)
	})
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	// What is sent together is one transaction.
	failing := &pgx.Batch{}
	failing.Queue("INSERT INTO notes (id) VALUES ($1)", 5900)
	failing.Queue("SELECT 1 / $1::bigint", 0)
	err := conn.SendBatch(ctx, failing).Close()
	var after int
	return all(same("rows", count, 200), same("a batch that fails", state(err), "22012"),
		conn.QueryRow(ctx, "SELECT count(*) FROM notes WHERE id BETWEEN 5000 AND 5999").Scan(&after), same("rows afterwards", after, 200))
}
