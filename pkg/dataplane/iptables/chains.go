package iptables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/model"
)

// section is what we have in one table: chains, and in a chain of the kernel's the jump to the first of them.
type section struct {
	table, hook string
	chains      []string
}

var sections = [...]section{
	{table: "filter", hook: "FORWARD", chains: []string{"MARGAY-FORWARD"}},
	{table: "nat", hook: "POSTROUTING", chains: []string{"MARGAY-NAT", "MARGAY-NAT-OUT"}},
	{table: "nat", hook: "PREROUTING", chains: []string{"MARGAY-FLOATING"}},
	{table: "nat", hook: "OUTPUT", chains: []string{"MARGAY-FLOATING-OUT"}},
}

const (
	filter = iota // index of sections
	nat
	floatingIn
	floatingOut
)

// rules are those of each chain of a section, as iptables takes them behind "-A CHAIN"; nil: no chains.
type rules [][]string

// listing is what iptables lists of a section: lines beginning with -P, -N and -A. A chain that is not there has none.
type listing struct {
	hook   []string
	chains [][]string
}

// forwardRules let pods' packets pass.
func forwardRules() rules {
	return rules{{
		"-m conntrack --ctstate INVALID -j RETURN",
		"-i cali+ -j ACCEPT",
		"-o cali+ -j ACCEPT",
	}}
}

// natRules say what is masqueraded in a family; random is whether iptables knows of --random-fully.
func natRules(n *model.NAT, six, random bool) rules {
	if n == nil || len(n.Sources) == 0 && len(n.Tunnels) == 0 && len(n.Floating) == 0 {
		return nil
	}
	randomly := ""
	if random {
		randomly = " --random-fully"
	}
	of := func(prefixes []netip.Prefix, format string) (out []string) {
		for _, p := range prefixes {
			if p.Addr().Is6() == six {
				out = append(out, fmt.Sprintf(format, p.Masked()))
			}
		}
		return slices.Compact(out)
	}
	main := append(loopRules(n, six), of(n.Sources, "-s %s -j MARGAY-NAT-OUT")...)
	for _, dev := range n.Tunnels {
		if deviceName.MatchString(dev) {
			main = append(main, "-o "+dev+" -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE"+randomly)
		}
	}
	out := of(n.Spared, "-d %s -j RETURN")
	leaves := ""
	switch {
	case n.Interface == "" || n.Interface == "+":
	case deviceName.MatchString(n.Interface):
		leaves = "-o " + n.Interface + " "
	default:
		return rules{main, out}
	}
	if n.Ports.Max > 0 {
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			out = append(out, leaves+"-p "+protocol+" "+translate(n, n.Ports, six)+randomly)
		}
	}
	return rules{main, append(out, leaves+translate(n, model.PortRange{}, six)+randomly)}
}

// loopRules give what a pod sends to itself by way of a floating address that address as source.
func loopRules(n *model.NAT, six bool) (out []string) {
	seen := map[netip.Addr]bool{}
	for _, f := range n.Floating {
		if f.Internal.Is6() == six && !seen[f.Internal] {
			seen[f.Internal] = true
			out = append(out, fmt.Sprintf("-s %[1]s -d %[1]s -j SNAT --to-source %s", f.Internal, f.External))
		}
	}
	return out
}

// floatingRules translate a family's floating addresses to the pods' own.
func floatingRules(n *model.NAT, six bool) rules {
	if n == nil {
		return nil
	}
	var out []string
	for _, f := range n.Floating {
		if f.External.Is6() == six {
			out = append(out, fmt.Sprintf("-d %s -j DNAT --to-destination %s", f.External, f.Internal))
		}
	}
	if out == nil {
		return nil
	}
	return rules{out}
}

// deviceName is what can be a device's name in a script. By any other nothing can leave.
var deviceName = regexp.MustCompile(`^[^\s"'\\/]{1,15}$`)

func translate(n *model.NAT, ports model.PortRange, six bool) string {
	rang := ""
	if ports.Max > 0 {
		rang = fmt.Sprintf("%d-%d", max(ports.Min, 1), ports.Max)
	}
	switch fixed := n.Address.IsValid() && n.Address.Is6() == six; {
	case fixed && rang != "" && six:
		return "-j SNAT --to-source [" + n.Address.String() + "]:" + rang
	case fixed && rang != "":
		return "-j SNAT --to-source " + n.Address.String() + ":" + rang
	case fixed:
		return "-j SNAT --to-source " + n.Address.String()
	case rang != "":
		return "-j MASQUERADE --to-ports " + rang
	}
	return "-j MASQUERADE"
}

// sign puts a comment with the rule's hash into a rule, by which a listing is compared: iptables prints a rule in a form
// that its versions vary.
func sign(chain, rule string) string {
	sum := sha256.Sum256([]byte(chain + " " + rule))
	return fmt.Sprintf(`-m comment --comment "margay:%s" %s`, hex.EncodeToString(sum[:8]), rule)
}

var signature = regexp.MustCompile(`--comment "?(margay:[0-9a-f]{16})"?`)

// signatures are the hashes in lines of rules, "" for a rule without.
func signatures(lines []string) (out []string) {
	for _, l := range rulesIn(lines) {
		m := signature.FindStringSubmatch(l)
		if m == nil {
			m = []string{"", ""}
		}
		out = append(out, m[1])
	}
	return out
}

// jumps are the rules in the hook that lead to our first chain.
func (s section) jumps(have listing) (out []string) {
	for _, l := range rulesIn(have.hook) {
		if strings.Contains(l+" ", " -j "+s.chains[0]+" ") {
			out = append(out, l)
		}
	}
	return out
}

// script is the input for iptables-restore --noflush that makes a listing into what is wanted; "" when it is right.
func (s section) script(have listing, want rules) string {
	var b strings.Builder
	if want == nil {
		s.remove(&b, have)
	} else {
		s.put(&b, have, want)
	}
	if b.Len() == 0 {
		return ""
	}
	return "*" + s.table + "\n" + b.String() + "COMMIT\n"
}

func (s section) put(b *strings.Builder, have listing, want rules) {
	var lines []string
	for i, chain := range s.chains {
		var signed []string
		for _, r := range want[i] {
			signed = append(signed, "-A "+chain+" "+sign(chain, r))
		}
		if len(have.chains[i]) == 0 || !slices.Equal(signatures(have.chains[i]), signatures(signed)) {
			fmt.Fprintf(b, ":%s - [0:0]\n", chain) // all chains first, since rules lead to later ones; empties one that is there
			lines = append(lines, signed...)
		}
	}
	for _, l := range lines {
		fmt.Fprintln(b, l)
	}
	jump := sign(s.hook, "-j "+s.chains[0])
	jumps, place := s.jumps(have), s.place(have)
	if len(jumps) == 1 && slices.Index(rulesIn(have.hook), jumps[0]) == place && slices.Equal(signatures(jumps), signatures([]string{"-A " + jump})) {
		return
	}
	s.unhook(b, jumps)
	fmt.Fprintf(b, "-I %s %d %s\n", s.hook, place+1, jump)
}

// place is how many rules of the hook belong before our jump: all up to the last one that leads to a chain of kube-proxy's.
func (s section) place(have listing) (n int) {
	ours, others := s.jumps(have), 0
	for _, l := range rulesIn(have.hook) {
		if slices.Contains(ours, l) {
			continue
		}
		others++
		if strings.Contains(l, " -j KUBE-") {
			n = others
		}
	}
	return n
}

// rulesIn are the lines of a listing that are rules.
func rulesIn(lines []string) (out []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, "-A ") {
			out = append(out, l)
		}
	}
	return out
}

// unhook deletes rules by what they say, never by their number: who lists and deletes a moment later might hit another's.
func (s section) unhook(b *strings.Builder, jumps []string) {
	for _, l := range jumps {
		fmt.Fprintf(b, "-D %s\n", strings.TrimPrefix(l, "-A "))
	}
}

func (s section) remove(b *strings.Builder, have listing) {
	s.unhook(b, s.jumps(have))
	for i, chain := range s.chains {
		if len(have.chains[i]) > 0 {
			fmt.Fprintf(b, "-F %s\n", chain)
		}
	}
	for i, chain := range s.chains {
		if len(have.chains[i]) > 0 {
			fmt.Fprintf(b, "-X %s\n", chain)
		}
	}
}

// drops tells whether packets may be dropped in the hook by others than us.
func (s section) drops(have listing) bool {
	ours := s.jumps(have)
	return slices.ContainsFunc(have.hook, func(l string) bool {
		if policy, ok := strings.CutPrefix(l, "-P "+s.hook+" "); ok {
			return !strings.HasPrefix(policy, "ACCEPT")
		}
		return strings.HasPrefix(l, "-A ") && !slices.Contains(ours, l)
	})
}
