// Command mkimg makes a container image from a root file system directory,
// with no registry and no container engine:
//
//	mkimg -o out.tar -t NAME:TAG [-t NAME:TAG]... [-entrypoint WORDS] [-cmd WORDS]
//	      [-env K=V]... [-user U[:G]] [-workdir DIR] [-label K=V]... ROOTFSDIR
//
// The result is an OCI image layout in a tar, as containerd's "ctr images
// import" and other tools read it. WORDS are separated by spaces, or are a
// JSON list of strings where a word has a space in it.
//
// The same directory gives the same bytes: times are zero, entries are sorted,
// everything belongs to root. The one layer is not compressed, since it is
// imported on several nodes of one machine, where CPU is dearer than disk.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// list collects the values of a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// words holds a command: given as words or as a JSON list.
type words []string

func (w *words) String() string { return strings.Join(*w, " ") }
func (w *words) Set(s string) error {
	if strings.HasPrefix(s, "[") {
		return json.Unmarshal([]byte(s), (*[]string)(w))
	}
	*w = strings.Fields(s)
	return nil
}

func main() {
	var (
		img             image
		env, labels     list
		entrypoint, cmd words
		out             = flag.String("o", "", "tar to write")
		user            = flag.String("user", "", "user the process runs as")
		workdir         = flag.String("workdir", "", "working directory of the process")
		names           = (*list)(&img.Names)
	)
	flag.Var(names, "t", "full name with tag; may repeat")
	flag.Var(&entrypoint, "entrypoint", "words, or a JSON list")
	flag.Var(&cmd, "cmd", "words, or a JSON list")
	flag.Var(&env, "env", "K=V; may repeat")
	flag.Var(&labels, "label", "K=V; may repeat")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: mkimg -o OUT.tar -t NAME:TAG [flags] ROOTFSDIR")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *out == "" || len(img.Names) == 0 || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	img.Config = config{
		Env:        append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...),
		Entrypoint: entrypoint,
		Cmd:        cmd,
		User:       *user,
		WorkingDir: *workdir,
	}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		if img.Config.Labels == nil {
			img.Config.Labels = map[string]string{}
		}
		img.Config.Labels[k] = v
	}
	if err := img.write(*out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "mkimg:", err)
		os.Exit(1)
	}
}
