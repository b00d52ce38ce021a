package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

var requests = []Request{
	{Op: OpStatus},
	{Op: OpAssign, Network: "k8s-pod-network", ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "web", PodUID: "u1", HostVeth: "cali0123456789a"},
	{Op: OpAssign, Network: "k8s-pod-network", ContainerID: "c1", IfName: "eth0", Features: &Features{IPAddrsNoIPAM: true, FloatingIPs: true}},
	{Op: OpCheck, ContainerID: "c1", IfName: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}},
	{Op: OpGC, Network: "k8s-pod-network", Valid: []Attachment{{ContainerID: "c1", IfName: "eth0"}, {ContainerID: "c2", IfName: "net1"}}},
}

var responses = []Response{
	{},
	{Code: Exhausted, Msg: "no free address in pool default-ipv4-ippool", Hint: "make a pool"},
	{Assigned: &Assigned{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, HostVeth: "cali0123456789a", MTU: 1450}},
	{Assigned: &Assigned{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, HostVeth: "cali0123456789a", MTU: 1450, MAC: "02:00:00:00:00:01"}},
	{Removed: true},
}

// All messages, one after the other on one stream, come out as they went in, however the stream is cut.
func TestRoundTrip(t *testing.T) {
	cuts := map[string]func(io.Reader) io.Reader{
		"whole":       func(r io.Reader) io.Reader { return r },
		"bytewise":    iotest.OneByteReader,
		"data at EOF": iotest.DataErrReader,
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			var stream bytes.Buffer
			for i := range requests {
				if err := Write(&stream, &requests[i]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range responses {
				if err := Write(&stream, &responses[i]); err != nil {
					t.Fatal(err)
				}
			}
			r := Reader(cut(&stream))
			for _, want := range requests {
				var got Request
				if err := Read(r, &got); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, %v, want %+v", got, err, want)
				}
			}
			for _, want := range responses {
				var got Response
				if err := Read(r, &got); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, %v, want %+v", got, err, want)
				}
			}
			if err := Read(r, new(Request)); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v, want EOF", err)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	long := strings.Repeat(" ", MaxLine)
	for _, tc := range []struct{ name, in, says string }{
		{"nothing", "", "EOF"},
		{"cut off", `{"op":"status"}`, "unexpected EOF"},
		{"cut in the middle", `{"op":"sta`, "unexpected EOF"},
		{"empty line", "\n", "EOF"},
		{"no JSON", "hello\n", "invalid character 'h'"},
		{"no object", `["status"]` + "\n", "cannot unmarshal array"},
		{"unknown field", `{"op":"status","colour":"red"}` + "\n", `unknown field "colour"`},
		{"wrong type", `{"op":"status","podUID":7}` + "\n", "podUID"},
		{"no address", `{"op":"check","addrs":["10.0.0.256"]}` + "\n", "10.0.0.256"},
		{"two objects", `{"op":"status"} {"op":"status"}` + "\n", "more than one object"},
		{"too long", `{"op":"status"}` + long + "\n", "longer than 1048576 bytes"},
		{"too long without an end", long + long, "longer than 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Read(Reader(strings.NewReader(tc.in)), new(Request))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want one that says %q", err, tc.says)
			}
		})
	}
}

// The longest line is allowed on both sides, and one byte more on neither.
func TestMaxLine(t *testing.T) {
	frame := len(`{"code":0,"msg":""}` + "\n")
	var line bytes.Buffer
	longest := Response{Msg: strings.Repeat("x", MaxLine-frame)}
	if err := Write(&line, &longest); err != nil || line.Len() != MaxLine {
		t.Fatalf("wrote %d bytes: %v", line.Len(), err)
	}
	var got Response
	if err := Read(Reader(&line), &got); err != nil || got.Msg != longest.Msg {
		t.Errorf("read the longest line: %v", err)
	}
	longest.Msg += "x"
	if err := Write(&line, &longest); !errors.Is(err, ErrTooLong) || line.Len() != 0 {
		t.Errorf("wrote %d bytes of a line that is too long: %v", line.Len(), err)
	}
}

func TestWriteFails(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := Write(w, &requests[0]); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want that of the writer", err)
	}
}

func TestErr(t *testing.T) {
	if err := (&Response{Msg: "done"}).Err(); err != nil {
		t.Errorf("OK has error %v", err)
	}
	for c := Invalid; c <= Internal; c++ {
		err := fmt.Errorf("assign: %w", (&Response{Code: c, Msg: "no", Hint: "try"}).Err())
		var e *Error
		if !errors.As(err, &e) || e.Code != c || err.Error() != "assign: no: try" {
			t.Errorf("code %d: %v", c, err)
		}
	}
	if got := (&Error{Msg: "no"}).Error(); got != "no" {
		t.Errorf("without a hint: %q", got)
	}
}

// FuzzRead: what can be read is what can be written, and nothing brings the reader down or beyond its bound.
func FuzzRead(f *testing.F) {
	for i := range requests {
		var b bytes.Buffer
		Write(&b, &requests[i])
		f.Add(b.Bytes())
	}
	f.Add([]byte("{}\n{\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := Reader(bytes.NewReader(in))
		for {
			var req Request
			if Read(r, &req) != nil {
				return
			}
			var line bytes.Buffer
			if err := Write(&line, &req); err != nil && !errors.Is(err, ErrTooLong) {
				t.Fatalf("write what was read: %v", err)
			}
			first := line.String()
			var again Request
			if err := Read(Reader(&line), &again); err != nil {
				t.Fatalf("read %q again: %v", first, err)
			}
			if err := Write(&line, &again); err != nil || line.String() != first {
				t.Fatalf("%q became %q: %v", first, line.String(), err)
			}
		}
	})
}
