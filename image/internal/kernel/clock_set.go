package kernel

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Clocks are the machine's clocks, for package timekeep.
type Clocks struct{}

// Now is time.Now.
func (Clocks) Now() time.Time { return time.Now() }

// Step moves the clock at once, by adjtimex(2): what passes between reading and
// setting is not lost.
func (Clocks) Step(by time.Duration) error {
	sec := int64(by / time.Second)
	nsec := int64(by % time.Second)
	if nsec < 0 { // the kernel wants the fraction positive
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: sec, Usec: nsec}}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("adjtimex(ADJ_SETOFFSET, %v): %w", by, err)
	}
	return nil
}

// Slew moves the clock at 0.5 ms a second, like adjtime(3), which replaces what
// is left of the slew before.
func (Clocks) Slew(by time.Duration) error {
	t := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: by.Microseconds()}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("adjtimex(ADJ_OFFSET_SINGLESHOT, %v): %w", by, err)
	}
	return nil
}

// Follow has the kernel say to every process that the clock follows servers, for
// so long: it counts 500 ppm of doubt a second, up to 16 s of it (adjtimex(2),
// STA_UNSYNC). A step ends it.
func (Clocks) Follow(d time.Duration) error {
	const most, rate = 16_000_000, 500 // us, us/s
	doubt := max(0, most-rate*int64(d/time.Second))
	t := unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR, Maxerror: doubt}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("adjtimex(ADJ_STATUS): %w", err)
	}
	return nil
}

// SaveRTC writes the time, in UTC, into the real-time clock.
func (Clocks) SaveRTC(t time.Time) error {
	const path = "/dev/rtc0"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	v := rtcTime(t)
	if err := unix.IoctlSetRTCTime(int(f.Fd()), &v); err != nil {
		return fmt.Errorf("%s: set %v: %w", path, t.UTC(), err)
	}
	return nil
}

func rtcTime(t time.Time) unix.RTCTime {
	t = t.UTC()
	return unix.RTCTime{
		Sec: int32(t.Second()), Min: int32(t.Minute()), Hour: int32(t.Hour()),
		Mday: int32(t.Day()), Mon: int32(t.Month() - 1), Year: int32(t.Year() - 1900),
	}
}

// SetHostname sets the host name. Check it first.
func SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("sethostname(%q): %w", name, err)
	}
	return nil
}
