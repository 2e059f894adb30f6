package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/lib/pq"
)

func pqChecks() []check {
	return []check{
		{"connect", pqConnect},
		{"metadata", withPq("", pqMetadata)},
		{"types", withPq("", pqTypes)},
		{"types, binary parameters", withPq("binary_parameters=yes", pqTypes)},
		{"large", withPq("", pqLarge)},
		{"cursor", withPq("", pqCursor)},
		{"cancel", withPq("", pqCancel)},
		{"error", withPq("", pqError)},
		{"copy", withPq("", pqCopy)},
		{"transaction", withPq("", pqTransaction)},
		{"batch", withPq("", pqBatch)},
		{"pool", withPq("", pqPool)},
		{"database/sql", withPq("", standard)},
		{"database/sql, binary parameters", withPq("binary_parameters=yes", standard)},
	}
}

func withPq(options string, run func(context.Context, *sql.DB) error) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := sql.Open("postgres", "application_name=pq "+options)
		if err != nil {
			return err
		}
		defer db.Close()
		return run(ctx, db)
	}
}

// code is the SQLSTATE of an error of lib/pq, or what else it says.
func code(err error) string {
	var failure *pq.Error
	if errors.As(err, &failure) {
		return string(failure.Code)
	}
	return fmt.Sprint(err)
}

func pqConnect(ctx context.Context) error {
	right := withPq("", func(ctx context.Context, db *sql.DB) error {
		var encrypted string
		return all(db.PingContext(ctx), db.QueryRowContext(ctx, "SHOW ssl").Scan(&encrypted), same("ssl", encrypted, "on"))
	})
	wrong := withPq("password=wrong", func(ctx context.Context, db *sql.DB) error {
		return same("a wrong password", code(db.PingContext(ctx)), "28P01")
	})
	return all(right(ctx), wrong(ctx))
}

func pqMetadata(ctx context.Context, db *sql.DB) error {
	var problems []error
	for _, q := range catalogQuestions {
		arguments := make([]any, len(q.arguments))
		for i, argument := range q.arguments {
			arguments[i] = argument
			if texts, many := argument.([]string); many {
				arguments[i] = pq.Array(texts)
			}
		}
		lines, err := lines(ctx, db, q.sql, arguments...)
		problems = append(problems, in(q.name, err))
		if err == nil {
			problems = append(problems, same(q.name, strings.Join(lines, "; "), strings.Join(q.want, "; ")))
		}
	}
	return all(problems...)
}

type sqlQuerier interface {
	QueryContext(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

// lines are the rows of a query.
func lines(ctx context.Context, db sqlQuerier, text string, arguments ...any) ([]string, error) {
	rows, err := db.QueryContext(ctx, text, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found []string
	for rows.Next() {
		values, places := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		if err := rows.Scan(places...); err != nil {
			return nil, err
		}
		found = append(found, line(values))
	}
	return found, rows.Err()
}

func pqTypes(ctx context.Context, db *sql.DB) error {
	defer db.ExecContext(ctx, "DELETE FROM types WHERE id BETWEEN 10 AND 99")
	var problems []error
	for i, want := range typedRows {
		what := fmt.Sprintf("row %d", i+1)
		row, err := pqRow(ctx, db, int64(i+1))
		problems = append(problems, in(what, err))
		if err != nil {
			continue
		}
		problems = append(problems, same(what, row.String(), want))
		row.id += 10
		values := row.values()
		values[7], values[13], values[14] = sqlNumeric(row), pq.Array(row.i4s), pq.Array(row.list)
		values[10], values[11] = sqlTime(row.d.Time, row.d.Valid), sqlTime(row.ts.Time, row.ts.Valid)
		if row.by == nil {
			// A nil slice is an empty one to lib/pq.
			values[9] = nil
		}
		_, err = db.ExecContext(ctx, insertTypes, values...)
		problems = append(problems, in("insert of "+what, err))
		again, err := pqRow(ctx, db, row.id)
		problems = append(problems, in(what+" again", err))
		if err == nil {
			problems = append(problems, same(what+" again", again.String(), row.String()))
		}
	}
	var texts []string
	var missing sql.NullString
	err := db.QueryRowContext(ctx, "SELECT $1::text[], $2::text", pq.Array([]string{`a "b"`, "", "NULL", `\`}), nil).Scan(pq.Array(&texts), &missing)
	problems = append(problems, in("array", err), same("array", fmt.Sprintf("%q", texts), `["a \"b\"" "" "NULL" "\\"]`), same("NULL", missing.Valid, false))
	var count int
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM sales WHERE country = ANY($1) AND event_time >= $2",
		pq.Array([]string{"France", "Peru"}), timestamp("2026-01-30 00:00:00")).Scan(&count)
	return all(append(problems, in("ANY", err), same("sales in France", count, 480))...)
}

func sqlTime(t time.Time, valid bool) any {
	if !valid {
		return nil
	}
	return t
}

func sqlNumeric(row *typed) any {
	value, err := row.n.Value()
	if err != nil {
		panic(err)
	}
	return value
}

// pqRow reads by what database/sql can scan into.
func pqRow(ctx context.Context, db *sql.DB, id int64) (*typed, error) {
	row := &typed{}
	places := row.places()
	var date, stamp sql.NullTime
	var number sql.NullString
	places[7], places[10], places[11], places[13], places[14] = &number, &date, &stamp, pq.Array(&row.i4s), pq.Array(&row.list)
	err := db.QueryRowContext(ctx, selectTypes, id).Scan(places...)
	if err == nil && number.Valid {
		err = row.n.Scan(number.String)
	}
	row.d.Time, row.d.Valid, row.ts.Time, row.ts.Valid = date.Time.UTC(), date.Valid, stamp.Time.UTC(), stamp.Valid
	return row, err
}

func pqLarge(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, million)
	if err != nil {
		return err
	}
	defer rows.Close()
	var count, sum int64
	for rows.Next() {
		var n int64
		var text string
		if err := rows.Scan(&n, &text); err != nil {
			return err
		}
		count, sum = count+1, sum+n
	}
	return all(rows.Err(), same("count", count, 1_000_000), same("sum", sum, 500_000_500_000))
}

func pqCursor(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "DECLARE numbers CURSOR FOR "+million); err != nil {
		return err
	}
	var count int
	for {
		rows, err := lines(ctx, tx, "FETCH 50000 FROM numbers")
		if err != nil {
			return err
		}
		if count += len(rows); len(rows) == 0 {
			break
		}
	}
	_, err = tx.ExecContext(ctx, "CLOSE numbers")
	return all(err, same("rows", count, 1_000_000))
}

func pqCancel(ctx context.Context, db *sql.DB) error {
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	canceled := make(chan error, 1)
	go func() {
		for n := 0; n == 0; {
			query := "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1"
			if err := db.QueryRowContext(ctx, query, endless).Scan(&n); err != nil {
				cancel()
				canceled <- err
				return
			}
		}
		cancel()
		canceled <- nil
	}()
	_, err := db.ExecContext(short, endless)
	var one int
	return all(in("watching", <-canceled), same("SQLSTATE", code(err), "57014"),
		in("afterwards", db.QueryRowContext(ctx, "SELECT 1").Scan(&one)), same("one", one, 1))
}

func pqError(ctx context.Context, db *sql.DB) error {
	db.SetMaxOpenConns(1)
	_, err := db.ExecContext(ctx, "SELECT id, prize FROM notes WHERE id > $1", 0)
	var failure *pq.Error
	if !errors.As(err, &failure) {
		return fmt.Errorf("no error of the server: %w", err)
	}
	problems := []error{
		same("SQLSTATE", failure.Code, "42703"), same("name", failure.Code.Name(), "undefined_column"),
		same("position", failure.Position, 12), same("severity", failure.Severity, "ERROR"),
	}
	_, err = db.ExecContext(ctx, "SELEC 1")
	problems = append(problems, same("a typing error", code(err), "42601"))
	_, err = db.ExecContext(ctx, "SELECT 1 / $1::bigint", 0)
	var one int
	return all(append(problems, same("division by zero", code(err), "22012"),
		db.QueryRowContext(ctx, "SELECT 1").Scan(&one), same("one", one, 1))...)
}

// pqCopy: lib/pq copies in; out is psql's.
func pqCopy(ctx context.Context, db *sql.DB) error {
	defer db.ExecContext(ctx, "DELETE FROM notes WHERE id BETWEEN 2000 AND 2999")
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	copyIn, err := tx.PrepareContext(ctx, pq.CopyIn("notes", "id", "note", "price", "at"))
	if err != nil {
		return err
	}
	for _, row := range [][]any{
		{2001, "a\tb\\", "1.50", timestamp("2026-01-31 12:00:00")}, {2002, nil, nil, nil}, {2003, "bytes", 7, nil},
	} {
		if _, err := copyIn.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	_, err = copyIn.ExecContext(ctx)
	if err = all(in("end of COPY", err), in("close", copyIn.Close()), in("commit", tx.Commit())); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "psql", "-X", "-q", "-c", `\copy (SELECT * FROM notes WHERE id BETWEEN 2000 AND 2999 ORDER BY id) TO STDOUT`)
	var output, said bytes.Buffer
	command.Stdout, command.Stderr = &output, &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, said.String())
	}
	want := "2001\ta\\tb\\\\\t1.50\t2026-01-31 12:00:00+00\n2002\t\\N\t\\N\t\\N\n2003\tbytes\t7.00\t\\N\n"
	return same("text", output.String(), want)
}

func pqTransaction(ctx context.Context, db *sql.DB) error {
	defer db.ExecContext(ctx, "DELETE FROM notes WHERE id BETWEEN 4000 AND 4999")
	insert := "INSERT INTO notes (id, note) VALUES ($1, $2)"
	left := func() ([]string, error) {
		return lines(ctx, db, "SELECT id FROM notes WHERE id BETWEEN 4000 AND 4999 ORDER BY id")
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, insert, 4001, "rolled back")
	if err = all(err, tx.Rollback()); err != nil {
		return err
	}
	after, err := left()
	if err = all(err, same("after the rollback", after, "[]")); err != nil {
		return err
	}
	if tx, err = db.BeginTx(ctx, nil); err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, insert, 4002, "kept")
	for _, step := range []string{"SAVEPOINT a", "INSERT INTO notes (id) VALUES (4003)", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a"} {
		if err == nil {
			_, err = tx.ExecContext(ctx, step)
		}
	}
	if err = all(err, tx.Commit()); err != nil {
		return err
	}
	after, err = left()
	if err = all(err, same("after the commit", after, "[4002]")); err != nil {
		return err
	}
	if tx, err = db.BeginTx(ctx, nil); err != nil {
		return err
	}
	_, wrong := tx.ExecContext(ctx, "SELECT nothing FROM nowhere")
	_, aborted := tx.ExecContext(ctx, insert, 4004, "never")
	committed := tx.Commit()
	return all(same("a wrong statement", code(wrong), "42P01"), same("the next one", code(aborted), "25P02"),
		same("commit of a failed transaction is refused", committed != nil, true))
}

// pqBatch: one statement with many rows, and one prepared statement many times.
func pqBatch(ctx context.Context, db *sql.DB) error {
	defer db.ExecContext(ctx, "DELETE FROM notes WHERE id BETWEEN 5000 AND 5999")
	var places []string
	var values []any
	for i := 0; i < 200; i++ {
		places = append(places, fmt.Sprintf("($%d, $%d)", 2*i+1, 2*i+2))
		values = append(values, 5000+i, fmt.Sprint("note ", i))
	}
	done, err := db.ExecContext(ctx, "INSERT INTO notes (id, note) VALUES "+strings.Join(places, ", "), values...)
	if err != nil {
		return err
	}
	rows, _ := done.RowsAffected()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	statement, err := tx.PrepareContext(ctx, "INSERT INTO notes (id, price) VALUES ($1, $2)")
	if err != nil {
		return err
	}
	for i := 0; i < 100; i++ {
		if _, err := statement.ExecContext(ctx, 5200+i, 1.5); err != nil {
			return err
		}
	}
	found, err := "", tx.Commit()
	if err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, "SELECT concat(count(*), ' ', count(note), ' ', sum(price)) FROM notes WHERE id BETWEEN 5000 AND 5999").Scan(&found)
	return all(err, same("rows", rows, 200), same("rows, notes, prices", found, "300 200 150.00"))
}

// pqPool: database/sql gives a connection on as it is.
func pqPool(ctx context.Context, db *sql.DB) error {
	db.SetMaxOpenConns(1)
	var first, second, name string
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	_, set := conn.ExecContext(ctx, "SET application_name = 'someone'")
	err = all(set, conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&first), conn.Close())
	if err != nil {
		return err
	}
	if conn, err = db.Conn(ctx); err != nil {
		return err
	}
	defer conn.Close()
	_, reset := conn.ExecContext(ctx, "DISCARD ALL")
	return all(reset, conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&second), same("connection", second, first),
		conn.QueryRowContext(ctx, "SHOW application_name").Scan(&name), same("application_name", name, "pq"))
}
