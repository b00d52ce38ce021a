package v3_test

import (
	"encoding/json"
	"testing"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

func TestASNumber(t *testing.T) {
	for _, c := range []struct {
		in   string
		want v3.ASNumber // 0: refused
	}{
		{"64512", 64512},
		{`"64512"`, 64512},
		{"4294967295", 4294967295},
		{`"1.10"`, 65546},
		{`"65535.65535"`, 4294967295},
		{"4294967296", 0},
		{`"1.65536"`, 0},
		{`"1."`, 0},
		{`"AS1"`, 0},
		{"-1", 0},
		{"1.5", 0},
		{"true", 0},
	} {
		var have v3.ASNumber
		err := json.Unmarshal([]byte(c.in), &have)
		if (err == nil) != (c.want != 0) || have != c.want {
			t.Errorf("%s is read as %d, %v, want %d", c.in, have, err, c.want)
		}
	}
	b, err := json.Marshal(v3.BGPPeerSpec{ASNumber: new(v3.ASNumber)})
	if want := `{"asNumber":0}`; err != nil || string(b) != want {
		t.Errorf("written as %s, %v, want %s", b, err, want)
	}
}
