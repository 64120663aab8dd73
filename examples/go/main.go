// Asks Portcullis whether a key opens a call, and says what a service should answer its own caller.
//
// The package check is what to copy; this is a command line around it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"example.com/portcullis-check/check"
	"example.com/portcullis-check/portcullis/v1"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var replicas, permissions, settings list
	flag.Var(&replicas, "replica", "where a gate listens, host:port or unix:/path; the nearest first")
	flag.Var(&permissions, "permission", "what the call needs")
	flag.Var(&settings, "setting", "the request's own value of a setting, name=value")
	workspace := flag.String("workspace", "default", "whose keys are accepted")
	source := flag.String("source", "", "the address that the service's caller connects from")
	timeout := flag.Int("timeout-ms", 500, "how long all of it may take")
	flag.Parse()

	credential, err := io.ReadAll(os.Stdin)
	fatal(err)
	asked := &portcullisv1.CheckRequest{
		Credential:    strings.TrimRight(string(credential), "\n"),
		Workspace:     *workspace,
		Permissions:   permissions,
		SourceAddress: *source,
		Settings:      map[string]string{},
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		asked.Settings[name] = value
	}
	var gates []portcullisv1.CheckServiceClient
	for _, address := range replicas {
		gate, err := check.Connect(address)
		fatal(err)
		gates = append(gates, gate)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*timeout)*time.Millisecond)
	defer cancel()
	answer, refusal := check.Check(ctx, gates, asked)
	if refusal != nil {
		fmt.Println(refusal)
		os.Exit(1)
	}
	fmt.Println("200 OK", answer.GetKey().GetName())
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
