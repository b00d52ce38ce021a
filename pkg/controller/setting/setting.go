// Package setting is the controller's configuration: variables of its environment, which beat the fields of the
// KubeControllersConfiguration named default, with Calico's names, values and defaults. It is pure. What is set to a value
// that nobody knows is an error that names the variable and says what it may be; a field cannot be, since the API server
// refuses it.
package setting

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// Defaults of fields that are not set (Calico's).
const (
	LeakGracePeriod = 15 * time.Minute
	MetricsPort     = 9094
	HealthPort      = 9096 // ours: Calico's probes are files
)

// Env is what the environment says, checked.
type Env struct {
	Kubeconfig string // path; "": the pod's service account
	Group      string // CALICO_API_GROUP; "": found by itself
	Identity   string // for the lease; "": the host's name
	Namespace  string // of the lease
	HealthPort int    // of probes; HEALTH_PORT

	set map[string]string // variables that are set, of those that beat a field
}

// Settings are what counts.
type Settings struct {
	Level       slog.Level
	Silent      bool // nothing is logged
	Health      bool
	MetricsPort int // 0: no metrics
	ProfilePort int // 0: no profiles

	Node      bool          // collect addresses, blocks, handles
	Grace     time.Duration // 0: only what is of nodes that are gone
	Balancer  bool          // give addresses to Services
	AssignIPs v3.AssignIPs

	Warnings []string // what is set and has no effect
}

// variables are those that beat a field, or that Calico's users set, and how each is checked.
var variables = map[string]func(string) error{
	"LOG_LEVEL":           func(v string) error { _, _, err := level(v); return err },
	"ENABLED_CONTROLLERS": func(v string) error { _, err := enabled(v); return err },
	"RECONCILER_PERIOD":   duration,
	"COMPACTION_PERIOD":   duration,
	"HEALTH_ENABLED":      boolean,
	"SYNC_NODE_LABELS":    boolean,
	"AUTO_HOST_ENDPOINTS": func(v string) error {
		if l := strings.ToLower(v); l != "enabled" && l != "disabled" {
			return fmt.Errorf("%q: want enabled or disabled", v)
		}
		return nil
	},
	"DATASTORE_TYPE": func(v string) error {
		if v != "kubernetes" {
			return fmt.Errorf("%q: want kubernetes, no other datastore is served", v)
		}
		return nil
	},
}

// Read checks the environment, given as os.Environ returns it.
func Read(environ []string) (Env, error) {
	env := map[string]string{}
	for _, line := range environ {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	e := Env{
		Kubeconfig: env["KUBECONFIG"], Group: env["CALICO_API_GROUP"], Identity: env["POD_NAME"], Namespace: env["POD_NAMESPACE"], set: map[string]string{},
	}
	if e.Namespace == "" {
		e.Namespace = metav1.NamespaceSystem
	}
	var errs []error
	e.HealthPort = HealthPort
	if v := env["HEALTH_PORT"]; v != "" {
		var err error
		if e.HealthPort, err = strconv.Atoi(v); err != nil || e.HealthPort < 0 || e.HealthPort > 65535 {
			errs = append(errs, fmt.Errorf("environment variable HEALTH_PORT is %q: want a port, or 0 for no probes", v))
		}
	}
	for name, check := range variables {
		v, ok := env[name]
		if !ok {
			continue
		}
		if err := check(v); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s is %w", name, err))
		}
		e.set[name] = v
	}
	return e, errors.Join(errs...)
}

func duration(v string) error {
	if _, err := time.ParseDuration(v); err != nil {
		return fmt.Errorf("%q: want a duration such as 5m", v)
	}
	return nil
}

func boolean(v string) error {
	if _, err := strconv.ParseBool(v); err != nil {
		return fmt.Errorf("%q: want true or false", v)
	}
	return nil
}

// level reads Calico's names of levels; silent: nothing is logged.
func level(v string) (l slog.Level, silent bool, err error) {
	switch strings.ToLower(v) {
	case "trace", "debug":
		return slog.LevelDebug, false, nil
	case "", "info":
		return slog.LevelInfo, false, nil
	case "warn", "warning":
		return slog.LevelWarn, false, nil
	case "error", "fatal", "panic":
		return slog.LevelError, false, nil
	case "none":
		return slog.LevelError, true, nil
	}
	return 0, false, fmt.Errorf("%q: want Debug, Info, Warning, Error, Fatal, Panic or None", v)
}

// idle are the controllers that have nothing to do with the Kubernetes datastore.
var idle = map[string]bool{"policy": true, "namespace": true, "profile": true, "serviceaccount": true, "workloadendpoint": true}

// enabled reads a list of controllers.
func enabled(v string) (map[string]bool, error) {
	out := map[string]bool{}
	for name := range strings.SplitSeq(v, ",") {
		if name != "node" && name != "loadbalancer" && !idle[name] {
			return nil, fmt.Errorf("%q, which names the unknown controller %q: want some of node, loadbalancer, parted by commas", v, name)
		}
		out[name] = true
	}
	return out, nil
}

// Default is the spec of a configuration that is made when there is none.
func Default() v3.KubeControllersConfigurationSpec {
	period := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	port, reconciler := MetricsPort, &v3.ReconcilerConfig{ReconcilerPeriod: period(5 * time.Minute)}
	return v3.KubeControllersConfigurationSpec{
		LogSeverityScreen: "Info", HealthChecks: v3.Enabled, EtcdV3CompactionPeriod: period(10 * time.Minute), PrometheusMetricsPort: &port,
		Controllers: v3.ControllersConfig{
			Node: &v3.NodeControllerConfig{
				ReconcilerPeriod: period(5 * time.Minute), SyncLabels: v3.Enabled, LeakGracePeriod: period(LeakGracePeriod),
				HostEndpoint: &v3.AutoHostEndpointConfig{AutoCreate: v3.Disabled, CreateDefaultHostEndpoint: v3.Enabled},
			},
			Policy: reconciler.DeepCopy(), WorkloadEndpoint: reconciler.DeepCopy(), ServiceAccount: reconciler.DeepCopy(), Namespace: reconciler.DeepCopy(),
			LoadBalancer: &v3.LoadBalancerControllerConfig{AssignIPs: v3.AssignAllServices},
			Migration:    &v3.MigrationControllerConfig{PolicyNameMigrator: v3.Enabled},
		},
	}
}

// Resolve returns what counts, and the status that says so. spec is of the resource; nil: there is none.
func Resolve(e Env, spec *v3.KubeControllersConfigurationSpec) (Settings, v3.KubeControllersConfigurationStatus) {
	if spec == nil {
		d := Default()
		spec = &d
	}
	run := spec.DeepCopy()
	s := Settings{Grace: LeakGracePeriod, MetricsPort: MetricsPort, AssignIPs: v3.AssignAllServices}
	if v, ok := e.set["LOG_LEVEL"]; ok {
		run.LogSeverityScreen = v
	}
	s.Level, s.Silent, _ = level(run.LogSeverityScreen)
	if v, ok := e.set["HEALTH_ENABLED"]; ok {
		run.HealthChecks = v3.Disabled
		if on, _ := strconv.ParseBool(v); on {
			run.HealthChecks = v3.Enabled
		}
	}
	s.Health = run.HealthChecks != v3.Disabled
	if v, ok := e.set["COMPACTION_PERIOD"]; ok {
		d, _ := time.ParseDuration(v)
		run.EtcdV3CompactionPeriod = &metav1.Duration{Duration: d}
	}
	if p := run.PrometheusMetricsPort; p != nil {
		s.MetricsPort = *p
	}
	if p := run.DebugProfilePort; p != nil {
		s.ProfilePort = int(*p)
	}
	e.controllers(run)
	if n := run.Controllers.Node; n != nil {
		s.Node = true
		if n.LeakGracePeriod != nil {
			s.Grace = n.LeakGracePeriod.Duration
		}
		if h := n.HostEndpoint; h != nil && h.AutoCreate == v3.Enabled {
			s.Warnings = append(s.Warnings, "hostEndpoint.autoCreate has no effect in this version")
		}
	}
	if lb := run.Controllers.LoadBalancer; lb != nil {
		s.Balancer = true
		if lb.AssignIPs != "" {
			s.AssignIPs = lb.AssignIPs
		}
	}
	return s, v3.KubeControllersConfigurationStatus{RunningConfig: run, EnvironmentVars: maps.Clone(e.set)}
}

// controllers has the environment say which controllers run. One that the resource configures keeps its fields.
func (e Env) controllers(run *v3.KubeControllersConfigurationSpec) {
	c := &run.Controllers
	if v, ok := e.set["ENABLED_CONTROLLERS"]; ok {
		on, _ := enabled(v)
		keep(&c.Node, on["node"])
		keep(&c.LoadBalancer, on["loadbalancer"])
		keep(&c.Policy, on["policy"])
		keep(&c.Namespace, on["namespace"] || on["profile"])
		keep(&c.ServiceAccount, on["serviceaccount"])
		keep(&c.WorkloadEndpoint, on["workloadendpoint"])
	}
	if v, ok := e.set["AUTO_HOST_ENDPOINTS"]; ok && c.Node != nil {
		c.Node.HostEndpoint = &v3.AutoHostEndpointConfig{AutoCreate: v3.Disabled, CreateDefaultHostEndpoint: v3.Enabled}
		if strings.EqualFold(v, "enabled") {
			c.Node.HostEndpoint.AutoCreate = v3.Enabled
		}
	}
	if v, ok := e.set["RECONCILER_PERIOD"]; ok {
		d, _ := time.ParseDuration(v)
		for _, r := range []*v3.ReconcilerConfig{c.Policy, c.Namespace, c.ServiceAccount, c.WorkloadEndpoint} {
			if r != nil {
				r.ReconcilerPeriod = &metav1.Duration{Duration: d}
			}
		}
	}
	if c.Node != nil {
		c.Node.SyncLabels = v3.Disabled // nodes' labels are where they are read
	}
}

// keep makes *part there or not.
func keep[T any](part **T, on bool) {
	switch {
	case !on:
		*part = nil
	case *part == nil:
		*part = new(T)
	}
}
