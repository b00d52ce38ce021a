// Package bgp is the node's BGP speaker: GoBGP behind a seam of a few methods. Nothing else imports GoBGP.
//
//	s := bgp.New(bgp.Options{Log: log})
//	go s.Run(ctx)         // speaks until ctx is done
//	s.Set(config)         // what should be: sessions, announcements, filters; again whenever it may have changed
//	<-s.Changed()         // something may be new in:
//	s.Paths()             // the best learned paths, all equally good ones
//	s.Peers(ctx)          // the sessions, for node status and metrics
//	s.Synced()            // Paths is complete after a start: what is not in it may be swept
//
// It owns the sessions, and what it was told and tells in them. It promises: Set is level-triggered, only differences
// reach GoBGP, and a session that is to stay as it is does not notice a change of others, nor of what is announced,
// filtered or passed on. A peer that can't be configured has state Refused and a reason; the others speak. It never
// touches the kernel's routes, and knows no Kubernetes: package topology says what to announce and with whom to speak,
// the data plane turns Paths into routes.
//
// # What is told
//
// As Calico's BIRD does it: a peer's filters decide first; then nothing within Config.Withhold is told, all of
// Config.Announce is, and of what was learned that which is within Config.Transit. Passing on follows RFC 4271 and 4456:
// from a peer of our AS only to other ASes, to our clients, or when it came from a client. Next hops are ours for what we
// announce and towards other ASes, else unchanged; what we pass on from our AS to another has MED 1 there, so that a router
// with sessions to all nodes prefers a block's owner, who sends none. Tags add communities where no filter has decided. A route within one of our own prefixes, such as an
// address that was borrowed from our block, is not passed on to other ASes, which send the whole block to us; within our
// AS it is, unlike in Calico, so that a reflector's clients send to the borrower and not by way of the owner. One session
// can carry both families, as MP-BGP, but Calico's nodes have one for each.
//
// # Restart
//
// A restarted speaker has forgotten everything; its peers have not. It tells them in its OPENs that it has restarted and
// that the kernel has gone on forwarding (RFC 4724), they keep its routes and tell theirs. When all peers that are up have
// told theirs, and the others have had Config.SyncWait, it tells its own and ends the restart. Until then its peers hear of
// no change; a node that just joined has no routes to lose, and Options.Fresh spares it that. Peers that restart at the
// same time do not wait for each other's routes, so the speaker is Synced only when each of them has told its own, too:
// what is in the kernel from before goes then, or after Config.RestartTime when a peer stays away. Run ends without a
// notification, so that an orderly end is no different from a kill; Stop tells that we are gone for good.
//
// The other way round, a lost peer's routes stay, marked Stale, until it is back and has told everything, or its restart
// time is over; where another peer's path is as good, that alone is used meanwhile. GoBGP makes no difference between a
// peer that restarts and one whose hold time ran out. When the peer has asked for it (Config.LongLived), stale paths then
// stay as a last resort (RFC 9494). When a session must start anew because its settings changed, or all must because AS,
// router ID or port did, the speaker keeps the peer's paths by itself, and ends the session so that a peer which knows RFC
// 8538, such as this speaker and FRR, keeps ours, too; BIRD 2.0 drops them until the session is up again, some two seconds.
//
// # What GoBGP does and does not
//
// Its API calls queue up on one goroutine: the speaker compares first and calls for what differs. It says why a session is
// not up in its log only, so that is read (log.go). It can't withdraw a route from one peer alone (retract.go),
// ends its own restart too early (gate.go), forgets a restarting peer's routes when a connection to it breaks before the
// session is up (state.go; a reflector's clients hear of that all the same), and has no way to listen without Multipath
// TCP, which knows no MD5 (listen.go). A session that broke is tried again after five seconds. Serve has no end: a server that was replaced, after
// a change of AS, router ID or port, leaves one idle goroutine.
//
// BFD (RFC 5880) is not there: GoBGP has it from v4.6 on, the Go libraries beside it are unfinished or unkept, and one
// of our own would end up being thrown away. Until then a dead peer is noticed by Config.Hold, three seconds at least.
package bgp
