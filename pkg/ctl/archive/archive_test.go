package archive

import (
	"strings"
	"testing"
)

// What looks like a secret is left out, in the forms in which files, YAML and JSON have it.
func TestBlank(t *testing.T) {
	for _, text := range []string{
		"password: hunter2", "nodeMeshPassword: hunter2 and more", `"password": "hunter2 and more"`, `{\"password\":\"hunter2\"}`,
		"- name: DB_PASSWORD\n  value: hunter2", `{"name":"DB_PASSWORD","value":"hunter2"}`, "Authorization: Bearer hunter2hunter2",
		"client-key-data: hunter2", "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
	} {
		if got := string(blank([]byte(text + "\nkept: yes\n"))); strings.Contains(got, "hunter2") || !strings.Contains(got, "kept: yes") {
			t.Errorf("%q became %q", text, got)
		}
	}
}
