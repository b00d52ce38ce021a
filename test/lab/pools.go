package lab

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// CreatePool makes a pool.
func (l *Lab) CreatePool(name string, spec v3.IPPoolSpec) error {
	return l.API.CreatePool(l.t.Context(), &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
}

// SetVXLANMode changes a pool.
func (l *Lab) SetVXLANMode(pool string, mode v3.EncapMode) error {
	return l.patchPool(pool, fmt.Sprintf(`{"spec":{"vxlanMode":%q}}`, mode))
}

// SetNATOutgoing changes a pool.
func (l *Lab) SetNATOutgoing(pool string, on bool) error {
	return l.patchPool(pool, fmt.Sprintf(`{"spec":{"natOutgoing":%t}}`, on))
}

// DisablePool keeps a pool from giving out new addresses.
func (l *Lab) DisablePool(pool string) error { return l.patchPool(pool, `{"spec":{"disabled":true}}`) }

// DeletePool deletes a pool; its blocks stay until their nodes give them back.
func (l *Lab) DeletePool(pool string) error {
	return l.any.Resource(v3.GroupVersion.WithResource("ippools")).Delete(l.t.Context(), pool, metav1.DeleteOptions{})
}

func (l *Lab) patchPool(pool, patch string) error {
	_, err := l.any.Resource(v3.GroupVersion.WithResource("ippools")).Patch(l.t.Context(), pool, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}
