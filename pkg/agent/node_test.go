package agent

import "testing"

func TestBrokenKernel(t *testing.T) {
	for release, want := range map[string]bool{
		"3.10.0-1160.el7": true, "4.18.0-553.el8": true, "5.4.0-150-generic": true, "5.7.19": true, "5.8.0": false, "6.1.0-30-amd64": false, "odd": false,
	} {
		if got := brokenKernel(release); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}
