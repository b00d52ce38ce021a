package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/dataplane/iptables"
	"github.com/margay-net/margay/pkg/dataplane/nft"
	"github.com/margay-net/margay/pkg/install"
	"github.com/margay-net/margay/pkg/netlink"
)

// Cleanup leaves the node as it was found, after the agent's end. args are --force, to end pods that live, too, and
// --stay, to wait for their end and then for ctx's. out gets a line for each thing that was done.
func Cleanup(ctx context.Context, c config.Config, args []string, out io.Writer) error {
	conn, err := netlink.New()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer conn.Close()
	log := slog.New(slog.NewTextHandler(out, nil))
	return install.Command(ctx, args, &install.Cleaner{
		Config: installConfig(c), Socket: c.Socket, Spool: c.Spool, Journal: c.JournalDir, Conn: conn, Wait: 30 * time.Second, Out: out,
		Steps: []install.Step{
			{What: "nftables tables margay", Do: func(context.Context) error { return nft.Clean(conn) }},
			{What: "iptables chains MARGAY-*", Do: func(context.Context) error { return iptables.Clean(conn, log) }},
		},
	})
}

// installConfig is what package install must know.
func installConfig(c config.Config) install.Config {
	return install.Config{
		BinDir: c.BinDir, NetDir: c.NetDir, RunDir: c.HostRun, Record: c.Record, ConfName: c.ConfName, Conf: c.Conf, Source: c.PluginDir,
		Skip: list(c.SkipPlugins), KeepPresent: c.KeepPlugins, TakeOver: list(c.TakeOver),
	}
}
