package apiserver

// Access is what another machine needs to use a Server: see Remote.
type Access struct {
	Port  int
	CA    []byte // PEM
	Token string // of a member of system:masters
}

// Access returns the way to the server.
func (s *Server) Access() Access {
	return Access{Port: s.api.number, CA: s.creds.cert, Token: s.creds.token}
}

// Remote is a Server that runs on another machine. Somebody has to forward the port of the same number of 127.0.0.1 here to
// it. It can not be taken down from here, and Stop leaves it alone.
func Remote(a Access) *Server {
	return &Server{api: &port{fd: -1, number: a.Port}, creds: creds{cert: a.CA, token: a.Token}}
}
