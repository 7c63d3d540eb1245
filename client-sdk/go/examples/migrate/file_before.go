package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/genai"
)

func askFrom(ctx context.Context, keys *[]string, question string) (string, error) {
	for len(*keys) > 0 {
		key := (*keys)[0]
		*keys = (*keys)[1:]
		client, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: key})
		if err != nil {
			return "", err
		}
		answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text(question), nil)
		refused, ok := errors.AsType[genai.APIError](err)
		switch {
		case err == nil:
			*keys = append(*keys, key)
			return answer.Text(), nil
		case !ok:
			return "", err
		case refused.Code == http.StatusTooManyRequests:
			*keys = append(*keys, key)
			time.Sleep(time.Minute)
		default: // A bad key: never again.
		}
	}
	return "", errors.New("no key is left")
}

func fileBefore(ctx context.Context) error {
	text, err := os.ReadFile("keys.txt")
	if err != nil {
		return err
	}
	keys := strings.Fields(string(text))
	for _, river := range []string{"Nile", "Amazon", "Yangtze"} {
		answer, err := askFrom(ctx, &keys, "Where does the "+river+" begin?")
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}
