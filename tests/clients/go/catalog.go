package main

// Statements that programs on top of database/sql ask the catalog with, and what is right in a warehouse with fixture.sql.
// Each gives one row for each line of want; values are joined by `|`.

type question struct {
	name, sql string
	arguments []any
	want      []string
}

var catalogQuestions = []question{
	{
		"is there a table", `SELECT count(*) FROM information_schema.tables
			WHERE table_schema = CURRENT_SCHEMA() AND table_name = $1 AND table_type = $2`,
		[]any{"notes", "BASE TABLE"}, []string{"1"},
	},
	{
		"tables and views", `SELECT table_name, table_type FROM information_schema.tables
			WHERE table_schema = 'public' AND table_name IN ('notes', 'french_sales', 'sales_hourly') ORDER BY 1`,
		nil, []string{"french_sales|VIEW", "notes|BASE TABLE"},
	},
	{
		"kinds of relations", `SELECT c.relname, c.relkind::text FROM pg_catalog.pg_class c
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = ANY($2) ORDER BY 1`,
		[]any{"public", []string{"french_sales", "notes", "sales_hourly", "top_products"}},
		[]string{"french_sales|v", "notes|r", "sales_hourly|m", "top_products|m"},
	},
	{
		"columns", `SELECT c.column_name, c.is_nullable = 'YES', c.udt_name, c.numeric_precision, c.numeric_scale,
				c.datetime_precision, c.column_default, d.description
			FROM information_schema.columns AS c
			JOIN pg_type AS t ON c.udt_name = t.typname
			LEFT JOIN pg_catalog.pg_description AS d ON d.objsubid = c.ordinal_position AND d.objoid = (
				SELECT oid FROM pg_catalog.pg_class WHERE relname = c.table_name AND relnamespace = (
					SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = c.table_schema))
			WHERE table_catalog = $1 AND table_schema = $2 AND table_name = $3 ORDER BY c.ordinal_position`,
		[]any{"toplake", "public", "notes"},
		[]string{"id|false|int8|64|0|NULL|NULL|NULL", "note|true|text|NULL|NULL|NULL|NULL|NULL",
			"price|true|numeric|10|2|NULL|NULL|NULL", "at|true|timestamptz|NULL|NULL|6|NULL|NULL"},
	},
	{
		"types of columns", `SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
			JOIN pg_class c ON a.attrelid = c.oid
			WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid = $1::regclass ORDER BY a.attnum`,
		[]any{"public.notes"},
		[]string{"id|bigint", "note|text", "price|numeric(10,2)", "at|timestamp with time zone"},
	},
	{
		"constraints", `SELECT c.column_name, constraint_name, constraint_type FROM information_schema.table_constraints tc
			JOIN information_schema.constraint_column_usage AS ccu USING (constraint_schema, constraint_catalog, table_name, constraint_name)
			JOIN information_schema.columns AS c ON c.table_schema = tc.constraint_schema AND tc.table_name = c.table_name
				AND ccu.column_name = c.column_name
			WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND c.table_catalog = $1 AND c.table_schema = $2 AND c.table_name = $3`,
		[]any{"toplake", "public", "notes"}, nil,
	},
	{
		"indexes", `SELECT ct.relname, ci.relname, i.indisunique, i.indisprimary, a.attname FROM pg_index i
			LEFT JOIN pg_class ct ON ct.oid = i.indrelid LEFT JOIN pg_class ci ON ci.oid = i.indexrelid
			LEFT JOIN pg_attribute a ON a.attrelid = ct.oid
			WHERE a.attnum = ANY(i.indkey) AND ct.relkind = 'r' AND ct.relname = $1`,
		[]any{"notes"}, nil,
	},
}
