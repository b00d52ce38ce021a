package table_test

import (
	"strings"
	"testing"

	"github.com/margay-net/margay/pkg/ctl/table"
)

// The expected texts are calicoctl's, blanks at the ends of lines and all.

func TestPlain(t *testing.T) {
	for _, test := range []struct {
		name string
		rows [][]string
		want string
	}{
		{"names", [][]string{{"NAME"}, {"node1"}, {"node2"}}, "NAME    \nnode1   \nnode2   \n"},
		{"no rows", [][]string{{"NAMESPACE", "NAME", "TIER"}}, "NAMESPACE   NAME   TIER   \n"},
		{"an empty cell", [][]string{{"NAME", "ASN", "IPV4", "IPV6"}, {"node1", "(64512)", "192.168.10.11/24", ""}},
			"NAME    ASN       IPV4               IPV6   \nnode1   (64512)   192.168.10.11/24          \n"},
		{"a cell of two lines", [][]string{{"NAME"}, {"a\nb\tc"}}, "NAME    \na b c   \n"},
	} {
		out := strings.Builder{}
		if err := table.Plain(&out, test.rows); err != nil {
			t.Fatal(err)
		}
		if out.String() != test.want {
			t.Errorf("%s:\n%q\nwant\n%q", test.name, out.String(), test.want)
		}
	}
}

func TestBoxed(t *testing.T) {
	pools := table.Boxed{Heading: []string{"GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE"}, Right: []int{2, 3}}
	pools.Row("IP Pool", "10.244.0.0/16", "65536", "6 (0%)")
	peers := table.Boxed{Heading: []string{"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"}, Centre: true}
	peers.Row("192.168.10.12", "node-to-node mesh", "up", "07:27:42", "Established")
	short := table.Boxed{Heading: []string{"A", "B"}}
	short.Row("ä")
	for _, test := range []struct {
		name  string
		table table.Boxed
		want  string
	}{
		{"ipam show", pools, `+----------+---------------+-----------+------------+
| GROUPING | CIDR          | IPS TOTAL | IPS IN USE |
+----------+---------------+-----------+------------+
| IP Pool  | 10.244.0.0/16 |     65536 |     6 (0%) |
+----------+---------------+-----------+------------+
`},
		{"node status", peers, `+---------------+-------------------+-------+----------+-------------+
| PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+---------------+-------------------+-------+----------+-------------+
| 192.168.10.12 | node-to-node mesh | up    | 07:27:42 | Established |
+---------------+-------------------+-------+----------+-------------+
`},
		{"a short row", short, "+---+---+\n| A | B |\n+---+---+\n| ä |   |\n+---+---+\n"},
		{"no rows", table.Boxed{Heading: []string{"A"}}, "+---+\n| A |\n+---+\n+---+\n"},
	} {
		out := strings.Builder{}
		if err := test.table.Print(&out); err != nil {
			t.Fatal(err)
		}
		if out.String() != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, out.String(), test.want)
		}
	}
}
