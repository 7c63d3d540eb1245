package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/genai"
)

var (
	keys = []string{"fake-key-0000", "fake-key-0001", "fake-key-0002"}
	turn int
)

func ask(ctx context.Context, question string) (string, error) {
	for range keys {
		client, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: keys[turn%len(keys)]})
		if err != nil {
			return "", err
		}
		turn++
		answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text(question), nil)
		if refused, ok := errors.AsType[genai.APIError](err); ok && refused.Code == http.StatusTooManyRequests {
			continue
		}
		if err != nil {
			return "", err
		}
		return answer.Text(), nil
	}
	return "", errors.New("every key was refused")
}

func rotatorBefore(ctx context.Context) error {
	for _, river := range []string{"Nile", "Amazon", "Yangtze"} {
		answer, err := ask(ctx, "Where does the "+river+" begin?")
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}
