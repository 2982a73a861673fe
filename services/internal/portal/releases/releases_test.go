package releases

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// output writes a folder as mkovf does, with small disks.
func output(t testing.TB, version string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	for _, v := range Variants {
		disk := make([]byte, 100<<10)
		if _, err := rand.Read(disk); err != nil {
			t.Fatal(err)
		}
		ovf := put(v.Prefix+".ovf", []byte(`<Envelope><ProductSection><FullVersion>`+version+`</FullVersion></ProductSection></Envelope>`))
		vmdk := put(v.Prefix+".vmdk", disk)
		put(v.Prefix+".mf", []byte("SHA256("+v.Prefix+".ovf)= "+ovf+"\nSHA256("+v.Prefix+".vmdk)= "+vmdk+"\n"))
		put(v.Prefix+".ova", append([]byte("tar"), disk...))
	}
	for _, name := range papers {
		put(name, []byte(name))
	}
	return dir
}

func service(t *testing.T, url string, blobs Blobs) *Service {
	t.Helper()
	db, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return New(db, v, blobs, nil)
}

// bucket returns object storage by somebody else's program.
func bucket(t *testing.T) *Bucket {
	t.Helper()
	srv := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	c, err := minio.New(host, &minio.Options{Creds: credentials.NewStaticV4("k", "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), "parley", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	conf := S3{Endpoint: host, Bucket: "parley", Region: "us-east-1", Key: "k", Secret: "s", Plain: true}
	b, err := NewBucket(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	conf.Bucket = "other"
	if _, err := NewBucket(t.Context(), conf); err == nil || !strings.Contains(err.Error(), `no bucket "other"`) {
		t.Errorf("%v, want that there is no bucket", err)
	}
	return b
}

var operator = people.Actor{User: "o", Name: "Operator", Operator: true}

// get downloads a file as a browser does, and follows to object storage.
func download(t *testing.T, s *Service, version, name string, header http.Header) (int, []byte, http.Header) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Serve(w, r, version, name); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	}))
	defer srv.Close()
	req, err := http.NewRequest("GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b, resp.Header
}

func TestImport(t *testing.T) {
	dir := output(t, "1.4.0")
	test := func(t *testing.T, url string, blobs Blobs) {
		s := service(t, url, blobs)
		told := map[string]int64{}
		r, err := s.ImportDir(t.Context(), operator, dir, "", Notes{EN: "new", RU: "новое"}, func(name string, done, _ int64) { told[name] = done })
		if err != nil {
			t.Fatal(err)
		}
		if r.Version != "1.4.0" || len(r.Files) != 11 || r.Published.IsZero() || told["parley-router.vmdk"] != 100<<10 {
			t.Errorf("%+v %v", r, told)
		}
		for _, f := range r.Files {
			want, err := os.ReadFile(filepath.Join(dir, f.Name))
			if err != nil {
				t.Fatal(err)
			}
			status, got, _ := download(t, s, "1.4.0", f.Name, nil)
			if status != http.StatusOK || !bytes.Equal(got, want) {
				t.Errorf("%s: %d, %d bytes, want %d", f.Name, status, len(got), len(want))
			}
		}
		if _, err := s.ImportDir(t.Context(), operator, dir, "", Notes{}, nil); !fault.Of(err).Has("version") {
			t.Errorf("published twice: %v", err)
		}
		if err := s.Withdraw(t.Context(), operator, "1.4.0", true); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := download(t, s, "1.4.0", "parley-router.ovf", nil); status != http.StatusNotFound {
			t.Errorf("withdrawn, and %d", status)
		}
	}
	t.Run("folder", func(t *testing.T) {
		storetest.Each(t, func(t *testing.T, url string) {
			f, err := NewFolder(filepath.Join(t.TempDir(), "releases"))
			if err != nil {
				t.Fatal(err)
			}
			test(t, url, f)
		})
	})
	t.Run("object storage", func(t *testing.T) { test(t, storetest.SQLite(t), bucket(t)) })
}

// A download goes on where it broke off, and only when the file is the same.
func TestRanges(t *testing.T) {
	dir := output(t, "1.4.0")
	f, err := NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, storetest.SQLite(t), f)
	r, err := s.ImportDir(t.Context(), operator, dir, "1.4.0", Notes{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := r.File("parley-router.vmdk")
	want, err := os.ReadFile(filepath.Join(dir, file.Name))
	if err != nil {
		t.Fatal(err)
	}
	status, got, h := download(t, s, "1.4.0", file.Name, http.Header{"Range": {"bytes=50000-"}, "If-Range": {`"` + file.Sum + `"`}})
	if status != http.StatusPartialContent || !bytes.Equal(got, want[50000:]) || h.Get("ETag") != `"`+file.Sum+`"` || !strings.Contains(h.Get("Content-Disposition"), file.Name) {
		t.Errorf("%d, %d bytes, %v", status, len(got), h)
	}
	if status, got, _ := download(t, s, "1.4.0", file.Name, http.Header{"Range": {"bytes=50000-"}, "If-Range": {`"other"`}}); status != http.StatusOK || len(got) != len(want) {
		t.Errorf("another file: %d, %d bytes", status, len(got))
	}
	if status, _, _ := download(t, s, "1.4.0", file.Name, http.Header{"If-None-Match": {`"` + file.Sum + `"`}}); status != http.StatusNotModified {
		t.Errorf("the same: %d", status)
	}
}

// What does not belong together is not published, and is not seen.
func TestImportRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		change func(dir string) error
		code   string
	}{
		"a file is missing": {func(d string) error { return os.Remove(filepath.Join(d, "parley-router.ova")) }, "not complete"},
		"a disk is another": {func(d string) error { return os.WriteFile(filepath.Join(d, "parley-router.vmdk"), []byte("x"), 0o644) }, "release-sum"},
		"a manifest is damaged": {func(d string) error {
			return os.WriteFile(filepath.Join(d, "parley-router.mf"), []byte("SHA1(x)= 0"), 0o644)
		}, "release-manifest"},
		"another version": {func(d string) error {
			return os.WriteFile(filepath.Join(d, "parley-router.ovf"), []byte("<FullVersion>9</FullVersion>"), 0o644)
		}, "release-differ"},
		"a link to elsewhere": {func(d string) error {
			p := filepath.Join(d, "SOURCES.txt")
			return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p))
		}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := output(t, "1.4.0")
			if err := x.change(dir); err != nil {
				t.Fatal(err)
			}
			blobs := filepath.Join(t.TempDir(), "b")
			f, err := NewFolder(blobs)
			if err != nil {
				t.Fatal(err)
			}
			s := service(t, storetest.SQLite(t), f)
			_, err = s.ImportDir(t.Context(), operator, dir, "", Notes{}, nil)
			if err == nil || !strings.Contains(err.Error(), x.code) {
				t.Errorf("%v, want %s", err, x.code)
			}
			if list, err := s.List(t.Context(), true); err != nil || len(list) != 0 {
				t.Errorf("%v %v", list, err)
			}
			if left, err := filepath.Glob(filepath.Join(blobs, partial+"*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
}

func TestPutRefuses(t *testing.T) {
	f, err := NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, storetest.SQLite(t), f)
	if _, err := s.Begin(t.Context(), operator, "1.0.0", Notes{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "a/b", "parley-router.exe", ".hidden", "parley-router.ovf\x00", strings.Repeat("a", 200)} {
		if _, err := s.Put(t.Context(), "1.0.0", name, 1, strings.NewReader("x"), nil); !fault.Of(err).Has("name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, size := range []int64{0, 5} {
		if _, err := s.Put(t.Context(), "1.0.0", "parley-router.ovf", size, strings.NewReader("x"), nil); fault.Of(err) == nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := s.Put(t.Context(), "2.0.0", "parley-router.ovf", 1, strings.NewReader("x"), nil); !errors.Is(err, people.ErrUnknown) {
		t.Errorf("no version: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, "1.0.0", "parley-router.ovf", 1, strings.NewReader("x"), nil); err == nil {
		t.Error("a context that ended")
	}
	if err := s.Publish(t.Context(), operator, "1.0.0"); fault.Of(err) == nil || len(fault.Of(err)) != 11 {
		t.Errorf("incomplete: %v", err)
	}
}

func TestGrant(t *testing.T) {
	f, err := NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, storetest.SQLite(t), f)
	if _, err := s.ImportDir(t.Context(), operator, output(t, "1.4.0"), "", Notes{}, nil); err != nil {
		t.Fatal(err)
	}
	var who people.Actor
	write := func(query string, args ...any) {
		t.Helper()
		if err := s.db.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Write(t.Context(), func(tx *store.Tx) error {
		a, err := people.InsertAccount(tx, people.Account{Name: "Acme", Type: people.Business, DefaultKind: people.KindBasic})
		if err != nil {
			return err
		}
		u, err := people.InsertUser(tx, people.User{Account: a.ID, Email: "a@example.com", Name: "A", Role: people.Admin, State: people.Active})
		who = people.Actor{User: u.ID, Account: a.ID, Role: u.Role}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	grant, end, err := s.Grant(t.Context(), who, "1.4.0", "parley-router.ovf", 2)
	if err != nil {
		t.Fatal(err)
	}
	good := func(grant string) {
		t.Helper()
		if account, err := s.Granted(t.Context(), grant, "1.4.0", "parley-router.ovf"); err != nil || account != who.Account {
			t.Errorf("%q %v", account, err)
		}
	}
	good(grant)
	refuse := func(what, grant, version, name string) {
		t.Helper()
		if _, err := s.Granted(t.Context(), grant, version, name); !errors.Is(err, people.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refuse("another file", grant, "1.4.0", "parley-router.vmdk")
	refuse("another version", grant, "1.4.1", "parley-router.ovf")
	for i := range grant {
		b := []byte(grant)
		b[i] ^= 1
		refuse(fmt.Sprintf("a grant with byte %d changed", i), string(b), "1.4.0", "parley-router.ovf")
	}
	// It goes with who made it, and with the token by which he did.
	for what, change := range map[string][2]string{
		"one who is suspended":   {"state = 'suspended'", "state = 'active'"},
		"one who is a member":    {"role = 'member'", "role = 'admin'"},
		"one without an account": {"account_id = NULL", "account_id = '" + who.Account + "'"},
	} {
		write("UPDATE users SET "+change[0]+" WHERE id = ?", who.User)
		refuse(what, grant, "1.4.0", "parley-router.ovf")
		write("UPDATE users SET "+change[1]+" WHERE id = ?", who.User)
		good(grant)
	}
	write("INSERT INTO api_tokens (id, account_id, user_id, title, scopes, sum, created, expires) VALUES ('t', ?, ?, 'T', 'releases:read', 's', 0, 0)", who.Account, who.User)
	who.Token = "t"
	byToken, _, err := s.Grant(t.Context(), who, "1.4.0", "parley-router.ovf", 2)
	if err != nil {
		t.Fatal(err)
	}
	good(byToken)
	write("DELETE FROM api_tokens")
	refuse("one by a token that is gone", byToken, "1.4.0", "parley-router.ovf")
	good(grant)
	s.now = func() time.Time { return end.Add(time.Second) }
	refuse("a grant that ended", grant, "1.4.0", "parley-router.ovf")
	for _, hours := range []int{0, -1, 24*7 + 1, 1 << 40} {
		if _, _, err := s.Grant(t.Context(), who, "1.4.0", "parley-router.ovf", hours); !fault.Of(err).Has("hours") {
			t.Errorf("%d hours: %v", hours, err)
		}
	}
}

// Blobs that no release has go when they are old.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	f, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, storetest.SQLite(t), f)
	r, err := s.ImportDir(t.Context(), operator, output(t, "1.4.0"), "", Notes{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, strings.Repeat("a", 64))
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); err != nil {
		t.Error("a young one went")
	}
	s.now = func() time.Time { return time.Now().Add(2 * lonely) }
	if err := s.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("an old one stays")
	}
	if _, err := os.Stat(filepath.Join(dir, r.Files[0].Sum)); err != nil {
		t.Error(err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("SHA256(a.ovf)= " + strings.Repeat("0", 64) + "\n")
	f.Add("SHA256(a)= x")
	f.Add("\r\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		sums, err := parseManifest(s)
		if err != nil {
			return
		}
		for name, sum := range sums {
			if name == "" || len(sum) != 64 {
				t.Fatalf("%q %q", name, sum)
			}
		}
	})
}
