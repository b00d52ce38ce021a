package agent

import (
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/model"
)

// environment is the source of parameters that beats all others.
func environment(c config.Config) config.Source {
	return config.Source{Name: "environment, parameter ", Values: c.Felix}
}

// defaultParams begins what is said of values in the resource that counts for all nodes.
const defaultParams = "FelixConfiguration default, spec."

// ofAll says whether a fault is that resource's.
func ofAll(fault string) bool { return strings.HasPrefix(fault, defaultParams) }

// resolve computes the parameters anew, and says what is wrong with what people set.
func (a *Agent) resolve() (model.Parameters, []string) {
	own := "node." + a.config.Node
	params, faults, notices := config.Resolve(environment(a.config),
		config.Source{Name: "FelixConfiguration " + own + ", spec.", Values: a.store.Params(own)},
		config.Source{Name: defaultParams, Values: a.store.Params("default")})
	a.mu.Lock()
	defer a.mu.Unlock()
	if params != a.params {
		a.params = params
		close(a.changed)
		a.changed = make(chan struct{})
		a.level.Set(level(params.LogLevel))
	}
	for _, n := range notices {
		if !slices.Contains(a.noticed, n) {
			a.log.Info("setting has no effect", "what", n)
		}
	}
	a.noticed = notices
	return params, faults
}

// paramsNow returns the parameters that count now, and what is closed when they change.
func (a *Agent) paramsNow() (model.Parameters, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.params, a.changed
}

func (a *Agent) currentParams() model.Parameters {
	p, _ := a.paramsNow()
	return p
}
