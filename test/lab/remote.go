package lab

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/test/apiserver"
)

// Handover writes what Attach needs into a folder: the programs under test, and the way to the API server.
func (c *Cluster) Handover(dir string) error {
	access, err := json.Marshal(c.Server.Access())
	if err != nil {
		return err
	}
	return errors.Join(os.CopyFS(filepath.Join(dir, "programs"), os.DirFS(c.Programs.dir)),
		os.WriteFile(filepath.Join(dir, "access.json"), access, 0o600))
}

// Attach is Start on another machine than that of the API server, with what Handover has written; forward has to have
// 127.0.0.1 at a port lead to the same port there. Stop removes the folder.
func Attach(dir string, forward func(port int) error) (*Cluster, error) {
	b, err := os.ReadFile(filepath.Join(dir, "access.json"))
	if err != nil {
		return nil, err
	}
	var access apiserver.Access
	if err := json.Unmarshal(b, &access); err != nil {
		return nil, err
	}
	if err := forward(access.Port); err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, Programs: &Programs{Version: "under test", dir: filepath.Join(dir, "programs")}, Server: apiserver.Remote(access)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c, c.connect(ctx, kube.GroupV3)
}
