// What pgx and lib/pq do with toplake: `go run . pgx` or `go run . pq`, over a warehouse with fixture.sql in it.
//
// Prints `ok NAME` or `not ok NAME: why` for each check and exits with 1 if one failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// patience is how long any one check may take.
const patience = 2 * time.Minute

// endless is a query that nobody waits for.
const endless = "SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 2 = 3"

// check is a name and what has to hold.
type check struct {
	name string
	run  func(context.Context) error
}

func main() {
	checks := map[string]func() []check{"pgx": pgxChecks, "pq": pqChecks}
	if len(os.Args) < 2 || checks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run . pgx|pq [NAME]…")
		os.Exit(2)
	}
	failed := false
	for _, check := range checks[os.Args[1]]() {
		if len(os.Args) > 2 && !contains(os.Args[2:], check.name) {
			continue
		}
		if err := attempt(check.run); err != nil {
			failed = true
			fmt.Printf("not ok %s: %s\n", check.name, strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Printf("ok %s\n", check.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// attempt runs a check; a panic of the driver is a failure like any other.
func attempt(run func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	return run(ctx)
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// all joins what is wrong, if anything is: one check can see several things.
func all(problems ...error) error {
	var said []string
	for _, problem := range problems {
		if problem != nil {
			said = append(said, problem.Error())
		}
	}
	if said == nil {
		return nil
	}
	return errors.New(strings.Join(said, "; "))
}

// same says how got differs from want.
func same(what string, got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("%s is %s and should be %s", what, g, w)
	}
	return nil
}

// in adds to an error what was done.
func in(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// timestamp reads the time of a test.
func timestamp(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05.999999", text)
	if err != nil {
		panic(err)
	}
	return t
}
