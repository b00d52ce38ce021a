package fault

import (
	"fmt"
	"math/rand/v2"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/test/lab"
)

// rest waits for a random time, half a second to one and a half of d; it reports false when stop is closed.
func rest(rnd *rand.Rand, d time.Duration, stop chan struct{}) bool {
	select {
	case <-stop:
		return false
	case <-time.After(d/2 + time.Duration(rnd.Int64N(int64(d)))):
		return true
	}
}

// killer kills one node's agent again and again.
func (s *soak) killer(seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	for rest(rnd, 2*time.Second, stop) {
		s.killed.Kill()
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		s.killed.Start()
		s.did("agents killed", s.killed.Name)
	}
}

// reaper has pods come and go on the mortal node, and takes it away under them: it is rebooted, or dies and another machine
// comes under its name a while later. At the end it is there, without pods.
func (s *soak) reaper(seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 12))
	for number := 10; ; number++ {
		var c churn
		until, going, seed := make(chan struct{}), make(chan bool, 1), rnd.Uint64()
		go func() {
			going <- rest(rand.New(rand.NewPCG(seed, 1)), 6*time.Second, stop)
			close(until)
		}()
		c.run(s.o, s.mortal, seed, until)
		if !<-going {
			s.remove(&c)
			return
		}
		if rnd.IntN(2) == 0 {
			s.mortal.Reboot()
			s.mortal.Start()
			s.remove(&c) // the runtime remembers them
			s.did("nodes rebooted", s.mortal.Name)
			continue
		}
		s.mortal.PowerOff()
		for _, p := range c.live {
			s.o.drop(p)
		}
		c.live = nil
		s.remove(&c)
		if err := s.mortal.Unregister(); err != nil {
			s.t.Error(err)
		}
		time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
		s.mortal = s.l.AddNode(s.mortal.Name, 10+number%100)
		s.mortal.Start()
		s.did("nodes deleted and made anew", s.mortal.Name)
		for end := time.Now().Add(20 * time.Second); s.mortal.Probe("readiness") != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond) // no runtime calls a plugin before there is one
		}
	}
}

// pools changes pools, and has another one come and go, whose addresses are given first. At the end they are as they were.
func (s *soak) pools(seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 13))
	check := func(what, object string, err error) {
		if err != nil {
			s.t.Errorf("%s: %s: %v", what, object, err)
		}
		s.did(what, object)
	}
	extra := false
	toggle := func() {
		if extra {
			if rnd.IntN(2) == 0 { // the orderly way
				check("pools disabled", "", s.l.DisablePool("a-extra"))
				rest(rnd, 3*time.Second, stop)
			}
			check("pools deleted", "", s.l.DeletePool("a-extra"))
		} else {
			check("pools made", "", s.l.CreatePool("a-extra", v3.IPPoolSpec{CIDR: "172.21.0.0/24", BlockSize: 28, VXLANMode: v3.EncapAlways}))
		}
		extra = !extra
	}
	for rest(rnd, 3*time.Second, stop) {
		switch pool := fmt.Sprintf("pool%d", 1+rnd.IntN(2)); rnd.IntN(3) {
		case 0:
			toggle()
		case 1:
			mode := []v3.EncapMode{v3.EncapAlways, v3.EncapNever, v3.EncapCrossSubnet}[rnd.IntN(3)]
			check("modes changed", pool+" "+string(mode), s.l.SetVXLANMode(pool, mode))
		case 2:
			check("natOutgoing changed", pool, s.l.SetNATOutgoing(pool, rnd.IntN(2) == 0))
		}
	}
	if extra {
		toggle()
	}
	for _, pool := range []string{"pool1", "pool2"} {
		check("modes changed", pool, s.l.SetVXLANMode(pool, v3.EncapAlways))
		check("natOutgoing changed", pool, s.l.SetNATOutgoing(pool, false))
	}
}

// cutter takes the API server away from nodes, one at a time.
func (s *soak) cutter(seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 14))
	for rest(rnd, 3*time.Second, stop) {
		n := append([]*lab.Node{s.killed}, s.lasts...)[rnd.IntN(3)]
		if rnd.IntN(3) == 0 {
			resume := n.StallAPI()
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			resume()
			s.did("API stalled", n.Name+" until then")
			continue
		}
		n.CutAPI()
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		n.HealAPI()
		s.did("API cut", n.Name+" until then")
	}
}

// saboteur breaks what the agents have made.
func (s *soak) saboteur(seed uint64, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 15))
	for rest(rnd, time.Second, stop) {
		i := rnd.IntN(len(s.base))
		p, other := s.base[i], s.base[(i+1)%len(s.base)]
		all := acts(p.Node, p, other)
		a := all[rnd.IntN(len(all))]
		// What it wants to break may be gone by now, as modes and nodes change.
		if len(a.ip) > 0 {
			_ = p.Node.NS.Batch(a.ip...)
		}
		if a.bridge != "" {
			_, _ = p.Node.NS.Run("bridge " + a.bridge)
		}
		for _, line := range a.sysctls {
			_ = p.Node.NS.SetSysctl(line[0], line[1])
		}
		s.did("sabotage", p.Node.Name+": "+a.name)
	}
}
