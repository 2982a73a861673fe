package qemutest_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"image/png"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// A real browser logs in with the password that the serial line shows, to the
// certificate that the serial line shows.
func TestBrowserLogin(t *testing.T) {
	judge.Need(t, "chromium")
	v := boot(t, qemutest.Options{})
	v.up()
	v.login()
	v.address()

	// The certificate gets the machine's addresses when there are any.
	for end := time.Now().Add(stepTime); !strings.Contains(v.command("status"), fingerprint(t, v.Port)); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("the serial line does not show the certificate's fingerprint %s", fingerprint(t, v.Port))
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, chromedp.IgnoreCertErrors, chromedp.WindowSize(1280, 1000),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("accept-lang", "en"))
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	defer chromedp.Cancel(ctx)
	if err := chromedp.Do(ctx,
		chromedp.Navigate(v.URL()), chromedp.WaitVisible("#password"),
		chromedp.SendKeys("#password", v.password+"\r"), chromedp.WaitVisible(".services"),
	); err != nil {
		t.Fatal(err)
	}
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(artefact(t, "status.png"), shot, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := chromedp.Run(ctx, chromedp.Text("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"zctrl", "mmr", "not configured", "10.0.2.15", built.version.String} {
		if !strings.Contains(text, want) {
			t.Errorf("the status page does not show %q:\n%s", want, text)
		}
	}
	// What happens on the serial line is seen without loading the page again.
	v.want("stop mmr", "mmr")
	if err := chromedp.Do(ctx, chromedp.Poll[chromedp.Void](`document.querySelector('[data-live="svc.mmr.state"]').dataset.state === "stopped"`)); err != nil {
		t.Errorf("the page does not notice that mmr was stopped: %v", err)
	}
	v.off()
}

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
