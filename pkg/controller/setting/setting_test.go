package setting

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

func TestBadValuesAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"ENABLED_CONTROLLERS=node,nodes":       `"nodes"`,
		"ENABLED_CONTROLLERS=":                 "ENABLED_CONTROLLERS",
		"ENABLED_CONTROLLERS=flannelmigration": `"flannelmigration"`,
		"LOG_LEVEL=loud":                       "LOG_LEVEL",
		"RECONCILER_PERIOD=5":                  "RECONCILER_PERIOD",
		"COMPACTION_PERIOD=x":                  "COMPACTION_PERIOD",
		"HEALTH_ENABLED=maybe":                 "HEALTH_ENABLED",
		"SYNC_NODE_LABELS=maybe":               "SYNC_NODE_LABELS",
		"AUTO_HOST_ENDPOINTS=true":             "want enabled or disabled",
		"DATASTORE_TYPE=etcdv3":                "want kubernetes",
	} {
		if _, err := Read([]string{line}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", line, err, want)
		}
	}
}

func resolve(t *testing.T, spec *v3.KubeControllersConfigurationSpec, environ ...string) (Settings, v3.KubeControllersConfigurationStatus) {
	t.Helper()
	e, err := Read(environ)
	if err != nil {
		t.Fatal(err)
	}
	return Resolve(e, spec)
}

func TestDefaults(t *testing.T) {
	s, status := resolve(t, nil)
	if !s.Node || !s.Balancer || s.Grace != 15*time.Minute || s.MetricsPort != 9094 || !s.Health || s.Level != slog.LevelInfo || s.AssignIPs != v3.AssignAllServices {
		t.Errorf("%+v", s)
	}
	if status.RunningConfig.Controllers.Node == nil || len(status.EnvironmentVars) != 0 {
		t.Errorf("%+v", status)
	}
}

func TestEnvironmentBeatsFields(t *testing.T) {
	spec := Default()
	spec.LogSeverityScreen, spec.HealthChecks = "Error", v3.Enabled
	spec.Controllers.Node.LeakGracePeriod = &metav1.Duration{Duration: time.Minute}
	spec.Controllers.LoadBalancer.AssignIPs = v3.AssignRequestedServicesOnly
	s, status := resolve(t, &spec, "LOG_LEVEL=debug", "HEALTH_ENABLED=false", "ENABLED_CONTROLLERS=node", "DATASTORE_TYPE=kubernetes", "OTHER=x")
	if s.Level != slog.LevelDebug || s.Health || s.Balancer || !s.Node || s.Grace != time.Minute {
		t.Errorf("%+v", s)
	}
	if status.EnvironmentVars["ENABLED_CONTROLLERS"] != "node" || status.EnvironmentVars["OTHER"] != "" || status.RunningConfig.Controllers.LoadBalancer != nil {
		t.Errorf("%+v", status)
	}
	if spec.Controllers.LoadBalancer == nil || spec.LogSeverityScreen != "Error" {
		t.Error("the resource itself was changed")
	}
	if s, _ = resolve(t, &spec, "ENABLED_CONTROLLERS=loadbalancer"); s.AssignIPs != v3.AssignRequestedServicesOnly || s.Node {
		t.Errorf("%+v: a controller that is enabled by name keeps its fields", s)
	}
}

func TestPartsThatAreNotNamedDoNotRun(t *testing.T) {
	s, _ := resolve(t, &v3.KubeControllersConfigurationSpec{Controllers: v3.ControllersConfig{Node: &v3.NodeControllerConfig{LeakGracePeriod: &metav1.Duration{}}}})
	if !s.Node || s.Balancer || s.Grace != 0 || s.MetricsPort != 9094 {
		t.Errorf("%+v", s)
	}
}
