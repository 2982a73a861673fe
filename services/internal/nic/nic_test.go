package nic

import (
	"net/netip"
	"slices"
	"testing"
	"testing/fstest"
)

func TestList(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("no interfaces, want at least the loopback")
	}
	if last := list[len(list)-1]; !last.Loopback {
		t.Errorf("last is %s, want the loopback", last.Name)
	}
}

func TestRead(t *testing.T) {
	i := Interface{Name: "eth0"}
	i.read(fstest.MapFS{
		"eth0/operstate":             {Data: []byte("up\n")},
		"eth0/statistics/rx_bytes":   {Data: []byte("1234\n")},
		"eth0/statistics/tx_dropped": {Data: []byte("7\n")},
		"eth0/statistics/tx_errors":  {Data: []byte("nonsense")},
	})
	if i.State != "up" || i.RX.Bytes != 1234 || i.TX.Dropped != 7 || i.TX.Errors != 0 {
		t.Errorf("read %+v", i)
	}
	i = Interface{Name: "gone"}
	i.read(fstest.MapFS{})
	if i.State != "unknown" {
		t.Errorf("state %q, want unknown", i.State)
	}
}

func TestReachable(t *testing.T) {
	list := []Interface{
		{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("192.0.2.1/24")}},
		{Name: "lo", Loopback: true, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	if got := Reachable(list); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
