// Prints a compose file as JSON, as `docker compose config` loads it: by the library of Docker Compose, which refuses what
// does not conform. No engine is needed.
//
//	compose-config FILE [ENV-FILE]
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("name a compose file"))
	}
	options, err := cli.NewProjectOptions(os.Args[1:2],
		cli.WithEnvFiles(os.Args[2:]...),
		cli.WithDotEnv,
		cli.WithInterpolation(true),
		cli.WithResolvedPaths(true),
		cli.WithNormalization(true),
		cli.WithConsistency(true),
		cli.WithDefaultProfiles(),
	)
	if err != nil {
		fail(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fail(err)
	}
	text, err := project.MarshalJSON()
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "compose-config:", err)
	os.Exit(1)
}
