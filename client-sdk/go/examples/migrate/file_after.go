package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genai"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

func fileAfter(ctx context.Context) error {
	broker, err := keybroker.New(os.Getenv("KEYBROKER_BROKER"))
	if err != nil {
		return err
	}
	defer broker.Close()
	client, err := keybrokergenai.NewClient(ctx, &keybroker.Transport{Client: broker, Deadline: 5 * time.Minute}, nil)
	if err != nil {
		return err
	}
	for _, river := range []string{"Nile", "Amazon", "Yangtze"} {
		question := genai.Text("Where does the " + river + " begin?")
		answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", question, nil)
		if err != nil {
			return err
		}
		fmt.Println(answer.Text())
	}
	return nil
}
