// Command flannel is flannel's data plane as a peer to measure against: its own subnet manager, VXLAN back end and
// iptables rules, in the order in which flanneld starts them, without the back ends and the options that no measurement
// needs. It has a go.mod of its own, so that Margay's knows nothing of it.
//
// usage: NODE_NAME=<node> flannel -kubeconfig FILE -conf FILE -subnet-file FILE -iface eth0 [-iptables=false]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan" // registers itself
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
)

// resync is flanneld's default period of its look at the iptables rules, in seconds.
const resync = 5

type options struct {
	kubeconfig, conf, subnetFile, iface string
	iptables                            bool
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file")
	flag.StringVar(&o.conf, "conf", "", "net-conf.json")
	flag.StringVar(&o.subnetFile, "subnet-file", "", "file to write the lease to")
	flag.StringVar(&o.iface, "iface", "eth0", "device to the other nodes")
	flag.BoolVar(&o.iptables, "iptables", true, "rules that let forwarded traffic pass and hide pods behind their node, as by flanneld's defaults in its manifest")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "flannel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	sm, err := kube.NewSubnetManager(ctx, "", o.kubeconfig, "flannel.alpha.coreos.com", o.conf, true)
	if err != nil {
		return err
	}
	config, err := sm.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return err
	}
	dev, err := ipmatch.LookupExtIface(o.iface, "", "", stack, ipmatch.PublicIPOpts{})
	if err != nil {
		return err
	}
	be, err := backend.NewManager(ctx, sm, dev).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	network, err := be.RegisterNetwork(ctx, &wg, config)
	if err != nil {
		return err
	}
	if o.iptables {
		if err := filter(ctx, o, config, network); err != nil {
			return err
		}
	}
	l := network.Lease()
	if err := sm.HandleSubnetFile(o.subnetFile, config, o.iptables, l.Subnet, l.IPv6Subnet, network.MTU()); err != nil {
		return err
	}
	wg.Go(func() { network.Run(ctx) })
	err = sm.CompleteLease(ctx, l, &wg)
	wg.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// filter sets up the rules and the goroutines that look after them.
func filter(ctx context.Context, o options, config *subnet.Config, network backend.Network) error {
	var rules iptables.IPTablesManager
	if err := rules.Init(ctx); err != nil {
		return err
	}
	err := rules.SetupAndEnsureMasqRules(ctx, config.Network, ip.IP4Net{}, ip.IP4Net{},
		config.IPv6Network, ip.IP6Net{}, ip.IP6Net{}, network.Lease(), resync, false)
	if err != nil {
		return err
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)
	return nil
}
