package ipam

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Journal operations. A record of an assignment goes from assign over active and settled to release and done.
const (
	opBoot    = "boot"    // first line: which boot the journal belongs to
	opAssign  = "assign"  // an assignment was handed out
	opActive  = "active"  // its routes stand
	opSettled = "settled" // the datastore knows, blocks and handle
	opRelease = "release" // the pod is gone; the datastore may not know yet
	opDone    = "done"    // the datastore knows; forget it
)

// entry is one line of the journal.
type entry struct {
	Op     string      `json:"op"`
	Boot   string      `json:"boot,omitempty"`   // of boot
	Key    string      `json:"key,omitempty"`    // of active, settled, release and done
	Assign *Assignment `json:"assign,omitempty"` // of assign
}

// compactAfter is how many lines more than live ones a journal may have before it is written anew.
const compactAfter = 1024

// journal is the file of the node's assignments: lines of "<crc32c of the JSON, hexadecimal> <JSON>\n". It belongs on
// tmpfs: it has to survive the agent, not the node.
type journal struct {
	path  string
	boot  string
	file  *os.File
	lock  *os.File
	size  int64 // bytes of whole lines
	lines int
	stale bool // it lacks what could not be written
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrLocked means that another agent of this node holds the journal.
var ErrLocked = errors.New("journal is held by another agent on this node")

// openJournal locks dir and returns the journal with the assignments in it, and damage: what could not be read (nil when
// all could). A damaged file is kept beside the journal with the ending .damaged. Assignments of an earlier boot are
// dropped: the reboot has ended their pods.
func openJournal(dir, boot string) (j *journal, live map[string]*Assignment, damage, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("make journal's folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open journal's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil, nil, ErrLocked
		}
		return nil, nil, nil, fmt.Errorf("lock journal: %w", err)
	}
	j = &journal{path: filepath.Join(dir, "journal"), boot: boot, lock: lock}
	live, damage, err = j.load()
	if err == nil {
		err = j.rewrite(live)
	}
	if err != nil {
		lock.Close()
		return nil, nil, nil, err
	}
	return j, live, damage, nil
}

// load reads the file and replays it.
func (j *journal) load() (live map[string]*Assignment, damage, err error) {
	live = map[string]*Assignment{}
	raw, err := os.ReadFile(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return live, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	bad := 0
	sc := bufio.NewReader(bytes.NewReader(raw))
	for n := 1; ; n++ {
		line, rerr := sc.ReadBytes('\n')
		if len(line) == 0 && errors.Is(rerr, io.EOF) {
			break
		}
		e, derr := decodeEntry(line)
		if derr != nil {
			bad++
			if damage == nil {
				damage = fmt.Errorf("journal %s line %d: %w", j.path, n, derr)
			}
			continue
		}
		if e.Op == opBoot && e.Boot != j.boot {
			return map[string]*Assignment{}, nil, nil
		}
		replay(live, e)
	}
	if damage == nil {
		return live, nil, nil
	}
	keep := fmt.Sprintf("%s.%d.damaged", j.path, time.Now().Unix())
	damage = fmt.Errorf("%w (%d lines in all; the file is kept as %s)", damage, bad, keep)
	if err := os.WriteFile(keep, raw, 0o600); err != nil {
		damage = errors.Join(damage, err)
	}
	return live, damage, nil
}

func replay(live map[string]*Assignment, e *entry) {
	switch e.Op {
	case opAssign:
		if e.Assign != nil {
			live[e.Assign.Key()] = e.Assign
		}
	case opActive:
		if a := live[e.Key]; a != nil {
			a.Active = true
		}
	case opSettled:
		if a := live[e.Key]; a != nil {
			a.Settled = true
		}
	case opRelease:
		if a := live[e.Key]; a != nil {
			a.Released = true
		}
	case opDone:
		delete(live, e.Key)
	}
}

func decodeEntry(line []byte) (*entry, error) {
	sum, body, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || !bytes.HasSuffix(line, []byte("\n")) {
		return nil, errors.New("cut short")
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return nil, errors.New("checksum does not match")
	}
	var e entry
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

func encodeEntry(buf *bytes.Buffer, e *entry) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	fmt.Fprintf(buf, "%08x ", crc32.Checksum(body, castagnoli))
	buf.Write(body)
	buf.WriteByte('\n')
	return nil
}

// append writes entries behind the last whole line. On an error (a full disk) nothing of them is left in the file, and
// compact writes it anew as soon as it can.
func (j *journal) append(entries ...entry) error {
	var buf bytes.Buffer
	for i := range entries {
		if err := encodeEntry(&buf, &entries[i]); err != nil {
			return fmt.Errorf("write journal %s: %w", j.path, err)
		}
	}
	if _, err := j.file.WriteAt(buf.Bytes(), j.size); err != nil {
		j.stale = true
		return errors.Join(fmt.Errorf("write journal %s: %w", j.path, err), j.file.Truncate(j.size))
	}
	j.size += int64(buf.Len())
	j.lines += len(entries)
	return nil
}

// rewrite replaces the file by one that has just the live assignments.
func (j *journal) rewrite(live map[string]*Assignment) error {
	var buf bytes.Buffer
	entries := []entry{{Op: opBoot, Boot: j.boot}}
	for _, a := range live {
		entries = append(entries, entry{Op: opAssign, Assign: a})
	}
	for i := range entries {
		if err := encodeEntry(&buf, &entries[i]); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	tmp := j.path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err = f.Write(buf.Bytes()); err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		f.Close()
		return errors.Join(fmt.Errorf("write journal: %w", err), os.Remove(tmp))
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.lines, j.stale = f, int64(buf.Len()), len(entries), false
	return nil
}

// compact writes the journal anew when it has grown far beyond the live assignments, or lacks something.
func (j *journal) compact(live map[string]*Assignment) error {
	if !j.stale && j.lines <= compactAfter+2*len(live) {
		return nil
	}
	return j.rewrite(live)
}

func (j *journal) close() error { return errors.Join(j.file.Close(), j.lock.Close()) }
