package selector

// Cache keeps parsed selectors by their text. Its zero value is empty and ready for one goroutine.
type Cache map[string]*Selector

// Parse is the function Parse for a text that comes again and again. Errors are not kept.
func (c *Cache) Parse(text string) (*Selector, error) {
	if s := (*c)[text]; s != nil {
		return s, nil
	}
	s, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if len(*c) >= 1000 || *c == nil {
		*c = Cache{} // a bound; what is in use comes back
	}
	(*c)[text] = s
	return s, nil
}
