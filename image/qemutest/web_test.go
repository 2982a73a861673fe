package qemutest_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"image/png"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/qemutest"
)

// fingerprint returns the first half of that of the web console's certificate, as
// the serial line breaks it.
func fingerprint(t *testing.T, port int) string {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sum := sha256.Sum256(c.ConnectionState().PeerCertificates[0].Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:16]), " ", ":")
}

// The screen shows the console in Russian, with letters and not with boxes.
func TestScreen(t *testing.T) {
	v := boot(t, qemutest.Options{Video: true})
	v.up()
	v.login()
	v.want("logs init -n 100", `.`)
	if out := v.unwrapped("logs init -n 100"); strings.Contains(out, "takes a font") || strings.Contains(out, "msg=font") {
		t.Errorf("the font was not taken:\n%s", out)
	}
	// The keyboard is the screen's: PID 1, which looks for power keys, has not
	// taken it.
	const in = `administrator logged in" terminal=tty1`
	for range 3 { // what is typed before the prompt is there counts for the line before
		for _, text := range []string{"admin\n", v.password + "\n"} {
			if err := v.QMP.Type(text); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		if strings.Contains(v.unwrapped("logs console-serial -n 100"), in) {
			break
		}
	}
	if err := v.QMP.Screendump(artefact(t, "login.png")); err != nil {
		t.Fatal(err)
	}
	v.wantLog("logs console-serial -n 100", in)
	if err := v.QMP.Type("logout\n"); err != nil {
		t.Fatal(err)
	}
	v.want("language ru", "Русский")
	time.Sleep(5 * time.Second) // the screen's banner follows
	path := artefact(t, "tty1.png")
	if err := v.QMP.Screendump(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	// A page of text is between an empty screen and a full one.
	lit, all := 0, 0
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			if r, g, b, _ := picture.At(x, y).RGBA(); r+g+b > 0x8000 {
				lit++
			}
			all++
		}
	}
	if lit*200 < all || lit*4 > all {
		t.Errorf("%d of %d pixels are lit", lit, all)
	}
	v.off()
}
