// Package wire is the protocol between the CNI plugin and the node's agent: JSON, one object per line, over the Unix
// socket SocketPath (mode 0600, owned by root: whoever may open it is trusted).
//
// A connection carries requests one after the other; each gets exactly one Response. ADD takes two of them, since the
// plugin makes the interfaces between address and route:
//
//	assign    agent picks addresses, notes them in its journal      -> addresses, MTU, name of the host side
//	          plugin makes the veth pair and sets up the pod's side
//	activate  agent writes host-side sysctls and routes, waits for the kernel's word
//
// If the plugin fails in between it sends release. Both sides are short-lived and bounded: a line is at most MaxLine
// bytes, unknown fields are refused, and either side closes a connection that stays silent for too long.
//
// The package is imported by the plugin and so imports nothing heavy.
package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// SocketPath is where the agent listens.
const SocketPath = "/var/run/margay/cni.sock"

// SpoolDir holds one file per release that the agent could not be told of, written by the plugin, read and removed by
// the agent. A file is one Request of Op release, named <container ID>-<interface>.json and put there by rename.
const SpoolDir = "/var/lib/margay/spool"

// MaxLine is the longest line of either side, in bytes. A GC request of 1,000 attachments has about 100 kB.
const MaxLine = 1 << 20

// Timeout is how long the plugin waits for the agent to accept a connection and to answer a request.
const Timeout = 5 * time.Second

// Op is what a request asks for.
type Op string

// Values of Op.
const (
	OpAssign   Op = "assign"
	OpActivate Op = "activate"
	OpRelease  Op = "release"
	OpCheck    Op = "check"
	OpGC       Op = "gc"
	OpStatus   Op = "status"
)

// Request is what the plugin asks. Which fields are needed depends on Op:
// assign: all but Valid; activate, release and check: ContainerID and IfName (release and check also HostVeth, if known);
// gc: Valid and Network; status: none.
type Request struct {
	Op          Op     `json:"op"`
	Network     string `json:"network,omitempty"` // name in the CNI configuration, k8s-pod-network: the handle's first part
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	PodUID      string `json:"podUID,omitempty"`
	HostVeth    string `json:"hostVeth,omitempty"`
	// Addrs of check: what the pod's interface has, by the runtime's word.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Valid of gc: the attachments that live; all others of Network are to be released.
	Valid []Attachment `json:"valid,omitempty"`
	// Features of assign: what the CNI configuration allows pods beyond the usual; nil: nothing. A former agent refuses a
	// request that has the field, so it is sent only where it says something.
	Features *Features `json:"features,omitempty"`
}

// Features are those that a CNI configuration has to allow, in feature_control (Calico's names).
type Features struct {
	IPAddrsNoIPAM bool `json:"ipAddrsNoIpam,omitempty"` // addresses that IPAM has no part in
	FloatingIPs   bool `json:"floatingIPs,omitempty"`   // pods that ask for floating addresses start even where these have no effect
}

// Attachment names one interface of one container.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// Response answers a request. Code 0 means that it was done.
type Response struct {
	Code Code   `json:"code"`
	Msg  string `json:"msg,omitempty"`  // one line: what happened, on which object
	Hint string `json:"hint,omitempty"` // one line: what to do
	// Assigned is the answer to assign.
	Assigned *Assigned `json:"assigned,omitempty"`
	// Removed of release: the agent has taken the host side away, so that the plugin need not.
	Removed bool `json:"removed,omitempty"`
}

// Assigned is what the plugin builds the interfaces from.
type Assigned struct {
	Addrs    []netip.Addr `json:"addrs"`    // one per family at most
	HostVeth string       `json:"hostVeth"` // name of the host side
	MTU      int          `json:"mtu"`      // bytes, of both sides
	// MAC is the Ethernet address of the pod's side, in colon form; "": the kernel's choice. A former plugin refuses an
	// answer that has the field, so a pod that asks for an address fails with it until the plugin is replaced.
	MAC string `json:"mac,omitempty"`
}

// Code says in machine-readable form why a request failed.
type Code int

// Values of Code.
const (
	OK        Code = 0
	Invalid   Code = 1 // the request itself is wrong: do not try again
	NotReady  Code = 2 // the agent can't do it yet: try again later
	Exhausted Code = 3 // no free address
	Unknown   Code = 4 // no such container and interface
	Mismatch  Code = 5 // check: what is differs from what was
	Internal  Code = 6 // anything else: try again later
)

// Err makes a Go error of a failed response; nil when Code is OK.
func (r *Response) Err() error {
	if r.Code == OK {
		return nil
	}
	return &Error{Code: r.Code, Msg: r.Msg, Hint: r.Hint}
}

// Error is a failed response as a Go error.
type Error struct {
	Code      Code
	Msg, Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + ": " + e.Hint
}

// ErrTooLong means that the other side sent a line longer than MaxLine.
var ErrTooLong = fmt.Errorf("line longer than %d bytes", MaxLine)

// Write sends v as one line.
func Write(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= MaxLine {
		return ErrTooLong
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Reader returns a reader that Read can take lines from.
func Reader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4096) }

// Read takes one line into v. Unknown fields, trailing data and wrong types are errors that name the field; io.EOF
// means that the other side has closed in between two lines.
func Read(r *bufio.Reader, v any) error {
	line, err := ReadLine(r)
	if err != nil {
		return err
	}
	return Decode(line, v)
}

// Decode reads one object with nothing unknown in it and nothing behind it.
func Decode(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decode message: more than one object on the line")
	}
	return nil
}
