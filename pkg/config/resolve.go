package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/model"
)

// prefix of the variables that set Felix's parameters.
const felixPrefix = "FELIX_"

// readFelix takes FELIX_ variables out of env. Names count in any case.
func (d *draft) readFelix(env map[string]string) (errs []error) {
	params := felix()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		upper := strings.ToUpper(name)
		if !strings.HasPrefix(upper, felixPrefix) || fromService(upper) {
			continue
		}
		s := env[name]
		delete(env, name)
		short := strings.TrimPrefix(upper, felixPrefix)
		i := slices.IndexFunc(params, func(p param) bool { return strings.EqualFold(p.name, short) || variable(p.name) == upper })
		switch {
		case i < 0:
			d.Notices = append(d.Notices, "environment variable "+name+": "+unknown(short, params))
		case !strings.EqualFold(s, "none") && !params[i].value.set(new(model.Parameters), s):
			errs = append(errs, bad(name, s, params[i].value.allowed))
		default:
			d.Felix[params[i].name] = s
		}
	}
	return errs
}

// variable is the environment's name for a field of a FelixConfiguration.
func variable(field string) string {
	if field == "ipipMTU" { // Calico has two names for it
		return felixPrefix + "IPINIPMTU"
	}
	return felixPrefix + strings.ToUpper(field)
}

// fromService says whether Kubernetes made a variable for a Service that happens to be called so.
func fromService(name string) bool {
	return strings.Contains(name, "_SERVICE_") || strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// unknown says what is known of a name that is no parameter.
func unknown(name string, params []param) string {
	if knownToCalico(name) {
		return "a parameter of Calico that has no effect in this version"
	}
	names := strings.Fields(calicoOnly)
	for _, p := range params {
		names = append(names, p.name)
	}
	if near := nearest(name, names); near != "" {
		return "no such parameter, and no effect; " + near + " is one"
	}
	return "no such parameter, and no effect"
}

// strangers notes the variables of env that look as if they were meant for the agent, and are none of its.
func strangers(env map[string]string) (notices []string) {
	var known []string
	for _, v := range variables("") {
		known = append(known, v.name)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		ours := slices.ContainsFunc([]string{"CALICO_", "CNI_", "IP_", "IP6_", "MARGAY_"}, func(p string) bool { return strings.HasPrefix(name, p) })
		if !ours || fromService(name) || slices.Contains(otherVariables, name) {
			continue
		}
		text := "environment variable " + name + ": not known, and no effect"
		if near := nearest(name, known); near != "" {
			text += "; " + near + " is one"
		}
		notices = append(notices, text)
	}
	return notices
}

// otherVariables are Calico's that have no effect here and need none.
var otherVariables = []string{
	"CALICO_MANAGE_CNI", "CALICO_DISABLE_FILE_LOGGING", "CALICO_K8S_NODE_REF", "CALICO_STARTUP_LOGLEVEL",
}

// Source is one set of parameters that people wrote.
type Source struct {
	Name   string            // for people: "FelixConfiguration default, spec."
	Values map[string]string // by the parameter's name
}

// Resolve returns the parameters that count; earlier sources beat later ones. faults says, a line each, which values were
// passed over and why; notices which have no effect.
func Resolve(sources ...Source) (out model.Parameters, faults, notices []string) {
	params := felix()
	for _, p := range params {
		faults = append(faults, pick(&out, p, sources)...)
	}
	for _, s := range sources {
		for _, name := range slices.Sorted(maps.Keys(s.Values)) {
			if slices.ContainsFunc(params, func(p param) bool { return p.name == name }) {
				continue
			}
			line := s.Name + name + ": " + unknown(name, params)
			if knownToCalico(name) {
				notices = append(notices, line)
			} else {
				faults = append(faults, line)
			}
		}
	}
	return out, faults, notices
}

// pick sets one parameter from the first source that has a good value, else its default.
func pick(out *model.Parameters, p param, sources []Source) (faults []string) {
	for _, s := range sources {
		v := s.Values[p.name]
		if v == "" {
			continue
		}
		if strings.EqualFold(v, "none") { // Calico's word for a parameter that is not to be set, whatever later sources say
			break
		}
		try := *out
		if p.value.set(&try, v) {
			*out = try
			return faults
		}
		faults = append(faults, fmt.Sprintf("%s%s: %q is not used: want %s", s.Name, p.name, v, p.value.allowed))
	}
	if p.def != "" {
		p.value.set(out, p.def)
	}
	return faults
}
