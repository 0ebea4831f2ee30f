from skmemae.benchmark.overview import main

if __name__ == "__main__":
    main()
