package advertise

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// TestOrder has a directory go through random changes; one that is told the outcome alone, in any order, says the same.
func TestOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	in := (&rule{cluster: "10.96.0.0/28 10.96.0.20/32", external: "192.168.50.0/30 192.168.50.9/32", balancer: "192.168.60.0/28", split: true}).input(false)
	d := NewDirectory(nil)
	services, slicesNow := map[Key]*Service{}, map[Key]*Slice{}
	addr := func(net string, n int) string { return fmt.Sprintf("%s.%d", net, rnd.IntN(n)) }
	alone := 0 // prefixes that are not networks
	for range 2000 {
		k := Key{"ns", fmt.Sprint(rnd.IntN(8))}
		if rnd.IntN(2) == 0 {
			var s *Service
			if rnd.IntN(4) > 0 {
				s = &Service{
					Cluster: addrs(false, addr("10.96.0", 24)), External: addrs(false, addr("192.168.50", 12)), Balancer: addrs(false, addr("192.168.60", 24)),
					Inside: rnd.IntN(2) == 0, Outside: rnd.IntN(2) == 0,
				}
			}
			services[k] = s
			d.SetService(k, s)
		} else {
			var s *Slice
			if rnd.IntN(4) > 0 {
				s = &Slice{Service: fmt.Sprint(rnd.IntN(8)), Family6: rnd.IntN(5) == 0, Here: rnd.IntN(2) == 0}
			}
			slicesNow[k] = s
			d.SetSlice(k, s)
		}
		fresh := NewDirectory(nil)
		told := []func(){}
		for k, s := range services {
			told = append(told, func() { fresh.SetService(k, s) })
		}
		for k, s := range slicesNow {
			told = append(told, func() { fresh.SetSlice(k, s) })
		}
		rnd.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
		for _, tell := range told {
			tell()
		}
		want, _ := fresh.Announcements(in)
		expect(t, d, in, want)
		if t.Failed() {
			return
		}
		alone += len(want) - 2
	}
	if alone == 0 {
		t.Error("no address was ever announced: the test shows nothing")
	}
}

// TestChanged: who is told of changes is told of those alone, and of none while all is being read.
func TestChanged(t *testing.T) {
	told := 0
	d := NewDirectory(func() { told++ })
	step := func(what string, do func(), want int) {
		t.Helper()
		before := told
		if do(); told-before != want {
			t.Errorf("%s: told %d times, want %d", what, told-before, want)
		}
	}
	r := rule{policy: "outside", ready: "here"}
	s, slice := r.service(false)
	key := Key{"shop", "web-x1"}
	d.SetRanges(true)
	step("first Service", func() { d.SetService(web, s) }, 0)
	step("Services read", d.ReadServices, 0)
	step("first slice", func() { d.SetSlice(key, slice) }, 0)
	if d.InSync() {
		t.Error("in sync before slices were read")
	}
	step("slices read", d.ReadSlices, 1)
	if !d.InSync() {
		t.Error("not in sync when all was read")
	}
	step("read again", func() { d.ReadSlices(); d.ReadServices() }, 0)
	same, again := r.service(false)
	step("the same Service", func() { d.SetService(web, same) }, 0)
	step("the same slice", func() { d.SetSlice(key, again) }, 0)
	for _, change := range []func(s *Service){
		func(s *Service) { s.Cluster = nil },
		func(s *Service) { s.External = nil },
		func(s *Service) { s.Balancer = nil },
		func(s *Service) { s.Inside = true },
		func(s *Service) { s.Outside = false },
	} {
		other, _ := r.service(false)
		change(other)
		step("another Service", func() { d.SetService(web, other) }, 1)
		step("the first one again", func() { d.SetService(web, s) }, 1)
	}
	step("slice elsewhere", func() { d.SetSlice(key, &Slice{Service: "web"}) }, 1)
	step("slice gone", func() { d.SetSlice(key, nil) }, 1)
	step("slice gone again", func() { d.SetSlice(key, nil) }, 0)
	step("Service gone", func() { d.SetService(web, nil) }, 1)
	step("Service gone again", func() { d.SetService(web, nil) }, 0)
}

func TestWanted(t *testing.T) {
	d := NewDirectory(nil)
	wanted, news := d.Wanted()
	if wanted || !d.InSync() {
		t.Error("a new directory wants something")
	}
	d.SetRanges(false)
	select {
	case <-news:
		t.Error("news although nothing changed")
	default:
	}
	d.SetRanges(true)
	<-news
	if wanted, _ = d.Wanted(); !wanted || d.InSync() {
		t.Error("nothing wanted, or in sync with nothing read")
	}
	d.SetService(web, &Service{Cluster: addrs(false, "10.96.0.10")})
	d.ReadServices()
	d.ReadSlices()
	in := (&rule{cluster: "10.96.0.10/32"}).input(false)
	expect(t, d, in, prefixes(false, "10.96.0.10/32"))
	d.Forget()
	if expect(t, d, in, nil); d.InSync() {
		t.Error("in sync with nothing known")
	}
}

// BenchmarkAnnouncements is what is computed with each plan: 5,000 Services of two addresses with a slice each, all of
// policy Local, a tenth of them with an endpoint here. MB-held is the directory alone.
func BenchmarkAnnouncements(b *testing.B) {
	before := heap()
	d := NewDirectory(nil)
	for i := range 5000 {
		k := Key{fmt.Sprintf("namespace-%d", i/100), fmt.Sprintf("service-%d", i)}
		d.SetService(k, &Service{
			Cluster: addrs(false, fmt.Sprintf("10.96.%d.%d", i/250, i%250)), Balancer: addrs(false, fmt.Sprintf("192.168.%d.%d", i/250, i%250)), Outside: true,
		})
		d.SetSlice(Key{k.Namespace, k.Name + "-x7b2k"}, &Slice{Service: k.Name, Here: i%10 == 0})
	}
	held := heap() - before
	in := (&rule{cluster: "10.96.0.0/12", balancer: "192.168.0.0/17 192.168.128.0/17"}).input(false)
	for b.Loop() {
		if got, _ := d.Announcements(in); len(got) != 3+1000 {
			b.Fatalf("announced %d, want 1003", len(got))
		}
	}
	b.ReportMetric(held, "MB-held")
	runtime.KeepAlive(d)
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
