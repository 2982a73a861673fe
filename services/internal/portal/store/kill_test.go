package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// writerURL makes the test binary a program that writes to a database.
const writerURL = "PARLEY_STORE_WRITER"

func TestMain(m *testing.M) {
	if url := os.Getenv(writerURL); url != "" {
		if err := writer(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// parts is how many settings belong to one id, beside an account and a user.
const parts = 3

// writer writes linked rows, several at once, and prints an id when Write has
// said that its rows are on the disk. It ends when it is killed, or when the
// database goes away.
func writer(url string) error {
	db, err := Open(context.Background(), url, nil)
	if err != nil {
		return err
	}
	const writers = 3
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for {
				id := NewID()
				if err := db.Write(context.Background(), func(tx *Tx) error {
					if _, err := tx.Exec("INSERT INTO accounts (id, name, type, default_kind, created) VALUES (?, ?, 'business', 'basic', 0)", id, id); err != nil {
						return err
					}
					if _, err := tx.Exec("INSERT INTO users (id, account_id, email, name, role, state, created) VALUES (?, ?, ?, '', 'owner', 'active', 0)", id, id, id); err != nil {
						return err
					}
					for i := range parts {
						if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?)", fmt.Sprint(id, ".", i), make([]byte, 3000)); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					errs <- err
					return
				}
				fmt.Println(id) // one system call, so a line is whole
			}
		}()
	}
	return <-errs
}

// TestKill kills a portal's writing process again and again, and of PostgreSQL
// now and then the server: what was acknowledged is there, and nothing is there
// by half.
func TestKill(t *testing.T) {
	rounds := 10
	if os.Getenv("PARLEY_LONG") != "" {
		rounds = 200
	}
	t.Run("sqlite", func(t *testing.T) { testKill(t, rounds, storetest.SQLite(t), nil) })
	t.Run("postgres", func(t *testing.T) {
		server := judge.NewPostgres(t)
		testKill(t, rounds, storetest.On(t, server), server)
	})
}

func testKill(t *testing.T, rounds int, url string, server *judge.Postgres) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged, servers := 0, 0
	for round := range rounds {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), writerURL+"="+url)
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := make(chan bool, 1)
		ids := make(chan []string)
		go func() { ids <- read(out, first) }()
		select {
		case <-first:
		case <-time.After(time.Minute):
			t.Error("the writer writes nothing")
		}
		time.Sleep(time.Duration(random.IntN(100_000)) * time.Microsecond)
		killServer := server != nil && round%5 == 4
		if killServer {
			servers++
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil && !killServer {
			t.Fatal(err)
		}
		done := <-ids
		_ = cmd.Wait()
		if killServer {
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		}
		acknowledged += len(done)
		if len(done) == 0 {
			t.Error("nothing was acknowledged")
		}
		judgeRows(t, url, done)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d kills of the writer, %d of the server, %d acknowledged writes", rounds, servers, acknowledged)
}

// read returns the lines that are whole, and tells of the first.
func read(r io.Reader, first chan<- bool) (ids []string) {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		if err != nil {
			return ids
		}
		if ids = append(ids, line[:len(line)-1]); len(ids) == 1 {
			first <- true
		}
	}
}

// judgeRows opens the database as a portal that starts again does.
func judgeRows(t *testing.T, url string, ids []string) {
	t.Helper()
	db, err := Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Read(t.Context(), func(tx *Tx) error {
		if tx.Kind() == SQLite {
			var verdict string
			if err := tx.Row("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
				return fmt.Errorf("integrity: %s %w", verdict, err)
			}
		}
		for _, id := range ids {
			var n int
			if err := tx.Row("SELECT COUNT(*) FROM accounts WHERE id = ?", id).Scan(&n); err != nil {
				return err
			}
			if n != 1 {
				t.Errorf("%s was acknowledged and is lost", id)
			}
		}
		var accounts, users, settings int
		if err := tx.Row("SELECT (SELECT COUNT(*) FROM accounts), (SELECT COUNT(*) FROM users JOIN accounts ON accounts.id = users.account_id AND users.id = accounts.id), (SELECT COUNT(*) FROM settings WHERE length(value) = 3000)").Scan(&accounts, &users, &settings); err != nil {
			return err
		}
		if users != accounts || settings != parts*accounts {
			t.Errorf("%d accounts, %d users, %d settings: half of something", accounts, users, settings)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
