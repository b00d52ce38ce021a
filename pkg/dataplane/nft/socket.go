package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink"
)

// socket speaks nftables' part of netlink (linux/netfilter/nf_tables.h). After an error there may be answers left in it: it
// must be closed then.
//
// The messages are made here and not by google/nftables, from which the rules' expressions come, since that leaves out
// what masquerading within a port range needs, asks the kernel to send each new rule back, and can't list what it does not
// know, such as a foreign rule in our chain.
type socket struct {
	*nl.Conn
	port uint32 // by which the kernel's events name this socket
}

// sendBuffer is room for a transaction of 50,000 elements, in bytes. The kernel takes memory only for what is sent.
const sendBuffer = 4 << 20

func open(c *netlink.Conn) (*socket, error) {
	s := &socket{}
	err := c.Do(func() (err error) {
		s.Conn, err = nl.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	if err := s.setup(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up nftables socket: %w", err), s.Close())
	}
	return s, nil
}

func (s *socket) setup() error {
	if err := errors.Join(s.SetWriteBuffer(sendBuffer), s.SetOption(nl.ExtendedAcknowledge, true)); err != nil {
		return err
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var sa unix.Sockaddr
	if ctl := raw.Control(func(fd uintptr) { sa, err = unix.Getsockname(int(fd)) }); err != nil || ctl != nil {
		return errors.Join(err, ctl)
	}
	s.port = sa.(*unix.SockaddrNetlink).Pid
	return nil
}

// attrs are a message's attributes, in order. All numbers in them are big endian.
type attrs = nl.AttributeEncoder

// message makes one of type kind, unix.NFT_MSG_*.
func message(family byte, kind int, flags nl.HeaderFlags, fill func(*attrs)) (nl.Message, error) {
	a := nl.NewAttributeEncoder()
	a.ByteOrder = binary.BigEndian
	fill(a)
	data, err := a.Encode()
	if err != nil {
		return nl.Message{}, fmt.Errorf("encode message of type %d: %w", kind, err)
	}
	return nl.Message{
		Header: nl.Header{Type: nl.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: nl.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	}, nil
}

// ask sends one question and calls f with the attributes of each answer.
func (s *socket) ask(family byte, kind int, flags nl.HeaderFlags, fill func(*attrs), f func(*nl.AttributeDecoder)) error {
	m, err := message(family, kind, flags, fill)
	if err != nil {
		return err
	}
	answers, err := s.Execute(m)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if len(a.Data) < 4 {
			return errors.New("short answer")
		}
		if err := decode(a.Data[4:], f); err != nil {
			return err
		}
	}
	return nil
}

func decode(b []byte, f func(*nl.AttributeDecoder)) error {
	d, err := nl.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		f(d)
	}
	return d.Err()
}

// transaction is a list of changes that the kernel makes all at once or not at all.
type transaction struct {
	family   byte
	messages []nl.Message
	err      error
}

func (t *transaction) add(kind int, flags nl.HeaderFlags, fill func(*attrs)) {
	m, err := message(t.family, kind, flags, fill)
	t.err = errors.Join(t.err, err)
	t.messages = append(t.messages, m)
}

// commit sends a transaction that is not empty. The kernel does the whole of it before it answers.
func (s *socket) commit(t *transaction) error {
	if t.err != nil {
		return t.err
	}
	edge := func(kind uint16) nl.Message {
		return nl.Message{Header: nl.Header{Type: nl.HeaderType(kind), Flags: nl.Request}, Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}}
	}
	batch := append([]nl.Message{edge(unix.NFNL_MSG_BATCH_BEGIN)}, t.messages...)
	batch = append(batch, edge(unix.NFNL_MSG_BATCH_END))
	last := len(batch) - 2
	batch[last].Header.Flags |= nl.Acknowledge
	sent, err := s.SendMessages(batch)
	if err != nil {
		return err
	}
	for { // what failed is told before the acknowledgement of what comes last
		answers, err := s.Receive()
		if err != nil {
			return err
		}
		for _, a := range answers {
			if a.Header.Type == nl.Error && a.Header.Sequence == sent[last].Header.Sequence {
				return nil
			}
		}
	}
}
