// Package bird answers on the control sockets of BIRD that calicoctl's "node status" reads: /var/run/calico/bird.ctl for
// IPv4 and bird6.ctl for IPv6. There is no BIRD; the agent's own BGP peers are told in BIRD's words.
//
// The protocol is that of BIRD 1.6 (doc/reply_codes, nest/cmds.c): lines of "CODE-text" and, as the last of a reply,
// "CODE text"; a line that begins with a blank goes on in the code before it. Of its commands "show protocols" and "show
// status" are known, and "quit"; all others are answered with a syntax error, so nothing can be changed here.
//
// Names of protocols are those that calicoctl takes apart: Mesh_, Global_ or Node_, then the peer's address with '_' for
// each '.' or ':'.
//
// A socket on which somebody answers, as a real BIRD would, is left alone.
package bird
