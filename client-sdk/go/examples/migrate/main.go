// Migrate holds the programs that docs/migrate.md shows: what calls Gemini with keys of its own, and the same with
// leased keys.
//
//	go run ./examples/migrate rotator_after
package main

import (
	"context"
	"log"
	"os"
)

var programs = map[string]func(context.Context) error{
	"environment_before": environmentBefore,
	"environment_after":  environmentAfter,
	"rotator_before":     rotatorBefore,
	"rotator_after":      rotatorAfter,
	"file_before":        fileBefore,
	"file_after":         fileAfter,
}

func main() {
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		log.Fatal("migrate: name one program, such as rotator_after")
	}
	if err := programs[os.Args[1]](context.Background()); err != nil {
		log.Fatal("migrate: ", err)
	}
}
