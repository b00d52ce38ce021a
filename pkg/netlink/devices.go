package netlink

// Devices follows the devices that a user names: their index while they are there and up. Not safe for several
// goroutines.
type Devices struct {
	conn  *Conn
	names map[string]int
	index map[int]string
}

// Devices returns a follower of no devices yet.
func (c *Conn) Devices() *Devices {
	return &Devices{conn: c, names: map[string]int{}, index: map[int]string{}}
}

// Index returns the device's index, 0 while it is not there or not up, and follows it from now on.
func (d *Devices) Index(name string) int {
	if i, ok := d.names[name]; ok {
		return i
	}
	d.look(name)
	return d.names[name]
}

// Name returns the name of a followed device that is there and up.
func (d *Devices) Name(index int) (string, bool) {
	name, ok := d.index[index]
	return name, ok
}

// Forget ends following the device.
func (d *Devices) Forget(name string) {
	d.set(name, 0)
	delete(d.names, name)
}

// Look asks the kernel for all followed devices anew and returns the names of those that changed.
func (d *Devices) Look() (changed []string) {
	for name := range d.names {
		if d.look(name) {
			changed = append(changed, name)
		}
	}
	return changed
}

// Put asks the kernel for one device anew, follows it, and tells whether it changed.
func (d *Devices) Put(name string) (index int, changed bool) {
	changed = d.look(name)
	return d.names[name], changed
}

// Event takes a link event in and returns the names of the followed devices that changed by it; lost is the index under
// which something hung that the kernel has now let go of, 0 for none.
func (d *Devices) Event(e Event) (changed []string, lost int) {
	l, ok := e.Link()
	if !ok {
		return nil, 0
	}
	gone := e.Deleted() || !l.Up
	old, known := d.index[l.Index]
	if known && (gone || old != l.Name) {
		d.set(old, 0)
		changed = append(changed, old)
	}
	if known && gone {
		lost = l.Index
	}
	if have, follow := d.names[l.Name]; follow && !gone && have != l.Index {
		d.set(l.Name, l.Index)
		changed = append(changed, l.Name)
	}
	return changed, lost
}

func (d *Devices) look(name string) bool {
	index, up := d.conn.Index(name)
	if !up {
		index = 0
	}
	old, known := d.names[name]
	d.set(name, index)
	return !known || old != index
}

func (d *Devices) set(name string, index int) {
	if old := d.names[name]; old != 0 && d.index[old] == name {
		delete(d.index, old)
	}
	d.names[name] = index
	if index != 0 {
		d.index[index] = name
	}
}
