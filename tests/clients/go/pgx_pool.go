package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgxPool: a connection goes on as it is, but not with an open transaction.
func pgxPool(ctx context.Context) error {
	config, err := pgxpool.ParseConfig("application_name=pgxpool pool_max_conns=1")
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	number := func(conn *pgxpool.Conn) uint32 { return conn.Conn().PgConn().PID() }
	var first, second, third uint32
	take := func(run func(*pgxpool.Conn) error) error { return pool.AcquireFunc(ctx, run) }
	err = take(func(conn *pgxpool.Conn) error {
		first = number(conn)
		_, err := conn.Exec(ctx, "SELECT count(*) FROM notes WHERE id = $1", 1)
		return err
	})
	if err != nil {
		return err
	}
	err = take(func(conn *pgxpool.Conn) error {
		second = number(conn)
		// The statement is prepared still.
		var prepared int
		err := conn.QueryRow(ctx, "SELECT count(*) FROM notes WHERE id = $1", 1).Scan(&prepared)
		if err != nil {
			return err
		}
		if err = all(conn.Ping(ctx), conn.Conn().DeallocateAll(ctx)); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "BEGIN")
		return err
	})
	if err != nil {
		return err
	}
	var count int
	err = take(func(conn *pgxpool.Conn) error {
		third = number(conn)
		_, discard := conn.Exec(ctx, "DISCARD ALL")
		return all(in("DISCARD ALL", discard), conn.QueryRow(ctx, "SELECT count(*) FROM notes").Scan(&count))
	})
	return all(err, same("the same connection", second, first), same("another after a transaction was left open", third != second, true))
}

// pgxStdlib: pgx behind database/sql, in each mode.
func pgxStdlib(ctx context.Context) error {
	var problems []error
	for _, mode := range modes {
		config := pgxConfig()
		config.DefaultQueryExecMode = mode
		db := stdlib.OpenDB(*config)
		problems = append(problems, in("mode "+mode.String(), standard(ctx, db)))
		problems = append(problems, in("mode "+mode.String(), db.Close()))
	}
	return all(problems...)
}

// standard is what any driver of database/sql has to do.
func standard(ctx context.Context, db *sql.DB) error {
	db.SetMaxOpenConns(2)
	defer db.ExecContext(ctx, "DELETE FROM notes WHERE id BETWEEN 6000 AND 6999")
	problems := []error{in("ping", db.PingContext(ctx))}
	statement, err := db.PrepareContext(ctx, "INSERT INTO notes (id, note, price, at) VALUES ($1, $2, $3, $4)")
	if err != nil {
		return err
	}
	defer statement.Close()
	at := timestamp("2026-01-31 12:00:00.000001")
	for i := 0; i < 3; i++ {
		done, err := statement.ExecContext(ctx, 6000+i, sql.NullString{String: "x", Valid: i > 0}, "1.25", at)
		if err != nil {
			return in("prepared INSERT", err)
		}
		rows, err := done.RowsAffected()
		problems = append(problems, err, same("rows of an INSERT", rows, 1))
	}
	rows, err := db.QueryContext(ctx, `SELECT id, note, price, "at" FROM notes WHERE id BETWEEN $1 AND $2 ORDER BY id`, 6000, 6999)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	var types []string
	for _, column := range columns {
		precision, scale, sized := column.DecimalSize()
		types = append(types, fmt.Sprint(column.Name(), " ", column.DatabaseTypeName(), " ", precision, scale, sized))
	}
	problems = append(problems, same("types of columns", types, "[id INT8 0 0 false note TEXT 0 0 false price NUMERIC 10 2 true at TIMESTAMPTZ 0 0 false]"))
	var found []string
	for rows.Next() {
		var id int64
		var note sql.NullString
		var price string
		var when sql.NullTime
		if err := rows.Scan(&id, &note, &price, &when); err != nil {
			return err
		}
		found = append(found, fmt.Sprint(id, " ", note.String, " ", note.Valid, " ", price, " ", when.Time.UTC().Equal(at)))
	}
	problems = append(problems, rows.Err(), same("rows", found, "[6000  false 1.25 true 6001 x true 1.25 true 6002 x true 1.25 true]"))
	for _, options := range []*sql.TxOptions{
		nil, {Isolation: sql.LevelReadCommitted}, {Isolation: sql.LevelRepeatableRead, ReadOnly: true}, {Isolation: sql.LevelSerializable},
	} {
		problems = append(problems, in(fmt.Sprint("transaction ", options), standardTransaction(ctx, db, options)))
	}
	return all(problems...)
}

// standardTransaction leaves nothing behind.
func standardTransaction(ctx context.Context, db *sql.DB, options *sql.TxOptions) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var before, inside, after int
	count := "SELECT count(*) FROM notes WHERE id BETWEEN 6000 AND 6999"
	if err = tx.QueryRowContext(ctx, count).Scan(&before); err != nil {
		return err
	}
	want := before
	if options == nil || !options.ReadOnly {
		if _, err = tx.ExecContext(ctx, "INSERT INTO notes (id) VALUES ($1)", 6100); err != nil {
			return err
		}
		want++
	}
	err = all(tx.QueryRowContext(ctx, count).Scan(&inside), same("rows in it", inside, want), tx.Rollback(),
		db.QueryRowContext(ctx, count).Scan(&after), same("rows after it", after, before))
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}
