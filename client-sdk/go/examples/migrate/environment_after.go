package main

import (
	"context"
	"fmt"
	"os"

	"google.golang.org/genai"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

func environmentAfter(ctx context.Context) error {
	broker, err := keybroker.New(os.Getenv("KEYBROKER_BROKER"))
	if err != nil {
		return err
	}
	defer broker.Close() // Delivers what is still to be reported.
	client, err := keybrokergenai.NewClient(ctx, &keybroker.Transport{Client: broker}, nil)
	if err != nil {
		return err
	}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Name three rivers."), nil)
	if err != nil {
		return err
	}
	fmt.Println(answer.Text())
	return nil
}
