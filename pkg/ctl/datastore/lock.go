package datastore

import (
	"context"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/kube"
)

const (
	quietFor   = 3 * time.Second // without a write of IPAM: longer than agents write after they saw the lock
	quietLimit = time.Minute
	writeTries = 8
)

func lock(ctx context.Context, c *connect.Cluster, out io.Writer) error {
	if err := setReady(ctx, c.Kube, false); err != nil {
		return fmt.Errorf("lock the datastore: %w", err)
	}
	if err := awaitQuiet(ctx, c, quietFor); err != nil {
		return fmt.Errorf("wait for the last writes of the agents; the datastore is locked: %w", err)
	}
	_, err := io.WriteString(out, "Datastore locked.\n")
	return err
}

func unlock(ctx context.Context, c *connect.Cluster, out io.Writer) error {
	if err := setReady(ctx, c.Kube, true); err != nil {
		return fmt.Errorf("unlock the datastore: %w", err)
	}
	_, err := io.WriteString(out, "Datastore unlocked.\n")
	return err
}

// setReady sets spec.datastoreReady of ClusterInformation default, which it makes when there is none.
func setReady(ctx context.Context, c *kube.Client, ready bool) error {
	return changeInformation(ctx, c, func(spec map[string]any) { spec["datastoreReady"] = ready })
}

func changeInformation(ctx context.Context, c *kube.Client, change func(spec map[string]any)) error {
	kind, ok := kube.KindOf("ClusterInformation")
	if !ok {
		return fmt.Errorf("kind ClusterInformation is not served")
	}
	for try := 0; ; try++ {
		obj, err := c.GetResource(ctx, kind, "", "default")
		missing := apierrors.IsNotFound(err)
		if missing {
			obj = &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "projectcalico.org/v3", "kind": kind.Kind, "metadata": map[string]any{"name": "default"},
			}}
		} else if err != nil {
			return err
		}
		spec, _, _ := unstructured.NestedMap(obj.Object, "spec")
		if spec == nil {
			spec = map[string]any{}
		}
		change(spec)
		obj.Object["spec"] = spec
		if missing {
			_, err = c.CreateResource(ctx, kind, obj, false)
		} else {
			_, err = c.UpdateResource(ctx, kind, obj, false)
		}
		if err == nil || try == writeTries || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
}

// awaitQuiet returns when nobody has written blocks, handles or affinities for a while.
func awaitQuiet(ctx context.Context, c *connect.Cluster, quiet time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	last, since := "", time.Now()
	for {
		now, err := versions(ctx, c)
		if err != nil {
			return err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("blocks, handles or affinities are still written: is the controller in the middle of much work, or is there an agent of a version that does not know the lock? lock once more: %w", ctx.Err())
		case <-time.After(quiet / 10):
		}
	}
}

// versions is another text whenever a block, handle or affinity was written.
func versions(ctx context.Context, c *connect.Cluster) (string, error) {
	text := ""
	for _, kind := range []string{"IPAMBlock", "IPAMHandle", "BlockAffinity"} {
		list, err := address.List[metav1.PartialObjectMetadata](ctx, c, kind)
		if err != nil {
			return "", err
		}
		for i := range list {
			text += list[i].Name + " " + list[i].ResourceVersion + "\n"
		}
	}
	return text, nil
}
