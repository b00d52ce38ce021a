package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/margay-net/margay/pkg/ctl/archive"
)

// journalStats counts what IPAM's journal holds, by operation.
func journalStats(path string) []byte {
	raw, err := os.ReadFile(path)
	if err != nil {
		return archive.Note(err)
	}
	ops, lines, bad := map[string]int{}, 0, 0
	for sc := bufio.NewScanner(bytes.NewReader(raw)); sc.Scan(); lines++ {
		var e struct{ Op string }
		_, text, _ := strings.Cut(sc.Text(), " ") // after the checksum
		if json.Unmarshal([]byte(text), &e) != nil || e.Op == "" {
			bad++
		}
		ops[e.Op]++
	}
	out, err := json.Marshal(ops)
	return append(fmt.Appendf(nil, "%d bytes, %d lines, %d unreadable\n%s\n", len(raw), lines, bad, out), archive.Note(err)...)
}
