package ctl_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/ctl"
)

var update = flag.Bool("update", false, "write the outputs in testdata anew")

// A script in testdata is what a person types and sees: lines that begin with "$ ", what each prints, and how it ends
// when that is not well. "$ margayctl ... <<END" is followed by its standard input, to the line END. What differs from run
// to run (UIDs, versions, times) stands there as UID, VERSION, TIME. Lines that begin with "# " are remarks.

// step is one command of a script.
type step struct {
	line, stdin, want string
}

// readScript takes a script apart. head is what stands before the first command.
func readScript(text string) (head string, steps []step) {
	for lines := strings.SplitAfter(text, "\n"); len(lines) > 0; {
		line := lines[0]
		lines = lines[1:]
		if !strings.HasPrefix(line, "$ ") && !strings.HasPrefix(line, "# ") {
			if len(steps) == 0 {
				head += line
			} else {
				steps[len(steps)-1].want += line
			}
			continue
		}
		s := step{line: strings.TrimSuffix(line, "\n")}
		if strings.HasSuffix(s.line, " <<END") {
			for len(lines) > 0 && strings.TrimSuffix(lines[0], "\n") != "END" {
				s.stdin += lines[0]
				lines = lines[1:]
			}
			lines = lines[1:]
		}
		steps = append(steps, s)
	}
	return head, steps
}

// words splits a line at blanks, but for those within single quotes.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all[len(all)-1] += part
			continue
		}
		fields := strings.Fields(part)
		if i > 0 && len(fields) > 0 && !strings.HasPrefix(part, " ") {
			all[len(all)-1] += fields[0]
			fields = fields[1:]
		}
		all = append(all, fields...)
		if strings.HasSuffix(part, " ") {
			all = append(all, "")
		}
	}
	if len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`(resourceVersion"?: )"\d*/?\d*"`), `$1"VERSION"`},
	{regexp.MustCompile(`resourceVersion: (\d+/|/\d+|\d+/\d+)\n`), "resourceVersion: VERSION\n"},
	{regexp.MustCompile(`(resource version|latest:) '?\d+'?`), "$1 VERSION"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\.crd\.projectcalico\.org "`), `.projectcalico.org "`},
	{regexp.MustCompile(`https://127\.0\.0\.1:\d+`), "SERVER"},
}

// run executes one command of this program, and returns what a terminal would show.
func (s step) run(ctx context.Context) string {
	if strings.HasPrefix(s.line, "# ") {
		return ""
	}
	args := words(strings.TrimSuffix(strings.TrimPrefix(s.line, "$ "), " <<END"))
	argv0 := args[0]
	if argv0 == "kubectl" {
		argv0, args = "kubectl-margay", args[1:]
	}
	var out bytes.Buffer
	cmd := ctl.New(argv0, ctl.Build{Version: "v0.1.0", Commit: "0123abc"})
	cmd.SetArgs(args[1:])
	cmd.SetIn(strings.NewReader(s.stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(&out, "%v\n[exit 1]\n", err)
	}
	text := out.String()
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n[no newline]\n"
	}
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}

// play runs the scripts of testdata whose names match, in order, and compares.
func play(t *testing.T, pattern string) {
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		t.Fatal("no scripts: ", pattern, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			head, steps := readScript(string(text))
			written := strings.Builder{}
			written.WriteString(head)
			for _, s := range steps {
				have := s.run(t.Context())
				if have != s.want && !*update {
					t.Errorf("%s\n%s\nwant\n%s", s.line, have, s.want)
				}
				written.WriteString(s.line + "\n")
				if s.stdin != "" {
					written.WriteString(s.stdin + "END\n")
				}
				written.WriteString(have)
			}
			if *update {
				if err := os.WriteFile(name, []byte(written.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
