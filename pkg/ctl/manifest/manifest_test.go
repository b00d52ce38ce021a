package manifest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/ctl/manifest"
)

// TestParse gives texts, and tells the resources with their lines, then the problems.
func TestParse(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"comments and dashes", "# a\n---\n# b\n---\n", ""},
		{"one", "apiVersion: v3\nkind: IPPool\nmetadata: {name: a}\n", "1 IPPool/a\n"},
		{"two, and one in a namespace", "kind: A\nmetadata: {name: a}\n---\n# comment\nkind: B\nmetadata: {name: b, namespace: ns}\n", "1 A/a\n5 B/ns/b\n"},
		{"dashes within text", "kind: A\nmetadata:\n  name: a\n  annotations:\n    x: |\n      a\n      ---\n      b\n", "1 A/a\n"},
		{"dashes and a comment", "--- # first\nkind: A\n--- \nkind: B\n", "2 A\n4 B\n"},
		{"CRLF", "kind: A\r\n---\r\nkind: B\r\n", "1 A\n3 B\n"},
		{"JSON with tabs", "{\n\t\"kind\": \"A\",\n\t\"metadata\": {\"name\": \"a\"}\n}", "1 A/a\n"},
		{"JSON list", `[{"kind": "A"}, {"kind": "B"}]`, "1 A\n1 B\n"},
		{"List", "kind: List\nitems:\n- kind: A\n- kind: BList\n  items:\n  - kind: B\n", "3 A\n6 B\n"},
		{"typed list", "apiVersion: v3\nkind: IPPoolList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n", "4 IPPool/a\n5 IPPool/b\n"},
		{"empty list", "kind: IPPoolList\nitems: []\n", ""},
		{"list of another thing", "kind: List\nitems: 3\n", "f:1: items is no list of resources\n"},
		{"lists in lists", strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "f:1: lists within lists within lists: write the resources one after another, with --- between\n"},
		{"number", "3\n", "f:1: is no resource: want apiVersion, kind, metadata and spec\n"},
		{"not YAML, others are", "kind: A\n---\nkind: B\n  x: 1\n---\nkind: C\n", "1 A\n6 C\nf:4: no YAML: mapping values are not allowed in this context\n"},
		{"unclosed", "kind: [A\n", "f:1: no YAML: did not find expected ',' or ']'\n"},
		{"key twice", "kind: A\nspec:\n  x: 1\n  x: 2\n", "f:4: key \"x\" stands there twice: leave one of the two out\n"},
		{"unknown anchor", "kind: *x\n", "f: no YAML: unknown anchor 'x' referenced\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			docs, err := manifest.Parse("f", []byte(test.text))
			have := strings.Builder{}
			for _, d := range docs {
				fmt.Fprintln(&have, d.Line, d.Name())
			}
			for _, p := range manifest.Problems(err) {
				fmt.Fprintln(&have, p)
			}
			if have.String() != test.want {
				t.Errorf("have\n%s\nwant\n%s", have.String(), test.want)
			}
		})
	}
}

func TestLineOf(t *testing.T) {
	docs, err := manifest.Parse("f", []byte(`kind: Other
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: a
  annotations:
    example.org/x: y
spec:
  ingress:
  - action: Allow
    destination:
      ports: [80, 443]
  - action: Deny
`))
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]int{
		"": 3, "kind": 4, "metadata.name": 6, "spec": 9, "spec.ingress[0].action": 11, "spec.ingress[0].destination.ports[1]": 13,
		"spec.ingress[1].action": 14, "spec.ingress[7].action": 10, "spec.egress": 9, "metadata.annotations[example.org/x]": 8, "status.x": 3,
		"spec..ingress[": 10, "]": 3,
	} {
		if line := docs[1].LineOf(field); line != want {
			t.Errorf("%s is on line %d, want %d", field, line, want)
		}
	}
	const want = "f:11: NetworkPolicy/a: spec.ingress[0].action: wrong"
	if p := docs[1].Problem("spec.ingress[0].action", "wrong"); p.Error() != want {
		t.Error(p)
	}
}

func TestSource(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yml": "kind: B", "a.yaml": "kind: A", "c.JSON": `{"kind": "C"}`, "d.txt": "kind: no", "deeper/e.yaml": "kind: E", "empty/x.yaml": "# nothing", "none/readme": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		source manifest.Source
		want   string
	}{
		{manifest.Source{Names: []string{dir}}, "A B C"},
		{manifest.Source{Names: []string{dir}, Recursive: true}, "A B C E | empty/x.yaml: no resources specified: --skip-empty passes over files without any"},
		{manifest.Source{Names: []string{dir}, Recursive: true, SkipEmpty: true}, "A B C E"},
		{manifest.Source{Names: []string{dir + "/deeper/e.yaml", "-"}, Stdin: strings.NewReader("kind: in")}, "E in"},
		{manifest.Source{Names: []string{"-"}, Stdin: strings.NewReader("")}, "| standard input: no resources specified: --skip-empty passes over files without any"},
		{manifest.Source{Names: []string{dir + "/none"}}, "| none: no resources specified: the folder has no file that ends with .yaml, .yml or .json; --recursive looks into its folders, too"},
		{manifest.Source{Names: []string{dir + "/none"}, SkipEmpty: true}, ""},
		{manifest.Source{Names: []string{dir + "/missing"}}, "| read resources: stat missing: no such file or directory"},
	} {
		docs, err := test.source.Read()
		var have []string
		for _, d := range docs {
			have = append(have, d.Name())
		}
		for _, p := range manifest.Problems(err) {
			have = append(have, "|", strings.ReplaceAll(p.Error(), dir+"/", ""))
		}
		if got := strings.TrimPrefix(strings.Join(have, " "), ": "); strings.ReplaceAll(got, "| : ", "| ") != test.want {
			t.Errorf("%+v:\n%s\nwant\n%s", test.source.Names, got, test.want)
		}
	}
}

// FuzzResources reads any text: it neither panics nor hangs, each resource stands on a line of the text, and the same
// text is read the same way twice.
func FuzzResources(f *testing.F) {
	for _, seed := range []string{
		"apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16, blockSize: 26}\n",
		"kind: List\nitems:\n- &a {kind: A}\n- *a\n", "{\"kind\": \"A\"}\n---\n[{\"kind\": \"B\"}]", "a: &a [*a]", "? [a]\n: b\n", "<<: {kind: A}", "--- |\n a\n---\t\nkind: !!str A",
		"kind: \xff", "\ufeffkind: A", "%YAML 1.2\n---\nkind: A\n...\nkind: B", "x: 1e400", "0: a\n0x0: b", "kind: AList\nitems: {a: b}", "kind: AList\nitems: [1, null]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		docs, err := manifest.Parse("f", text)
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + strings.Count(string(text), "\u0085") + strings.Count(string(text), "\u2028") + strings.Count(string(text), "\u2029") + 1
		for _, d := range docs {
			if d.Line < 1 || d.Line > lines || d.Object == nil || d.Object.Object == nil {
				t.Fatalf("%s on line %d of %d", d.Name(), d.Line, lines)
			}
			for _, field := range []string{"metadata.name", "spec[0].x", d.Name()} {
				if line := d.LineOf(field); line < 1 || line > lines {
					t.Fatalf("%s of %s on line %d of %d", field, d.Name(), line, lines)
				}
			}
		}
		again, errAgain := manifest.Parse("f", text)
		if len(again) != len(docs) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("%d, %v; then %d, %v", len(docs), err, len(again), errAgain)
		}
	})
}
